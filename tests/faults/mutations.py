"""The guards of the core, each taken away in turn: somebody has to notice every one of them.

`python -m tests.faults.mutations` copies the tree, takes one guard out of the copy, and runs the simulation on it; or
the tests that are named, where the simulation has no such thing (the server's script, a lock between processes). One
that nobody misses is not needed, or not tested.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.guards import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 1200


def mutated(mutation: Mutation, root: Path = ROOT) -> str:
    """The file without its guard; `ValueError` where the text is not there, or more than once."""
    content = (root / "hsm_shipper" / mutation.file).read_text()
    found = content.count(mutation.text)
    if found != 1:
        raise ValueError(f"{mutation.file} has {found} times {mutation.text!r}: the list of mutations is out of date")
    return content.replace(mutation.text, mutation.instead)


def caught(mutation: Mutation, seed: int, steps: int) -> tuple[bool, str]:
    """Whether the simulation notices, or the tests that are named, and what they say."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        leave = shutil.ignore_patterns("__pycache__")
        for name in ("hsm_shipper", "hsm_tools", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=leave)
        shutil.copy(ROOT / "pyproject.toml", copy)
        (copy / "hsm_shipper" / mutation.file).write_text(mutated(mutation))
        command = [sys.executable, "-m", "tests.faults.model", "--seed", str(seed), "--steps", str(steps), "--as-found"]
        if mutation.test:
            command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--tb", "line", mutation.test]
        try:
            done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return True, "it never ends"
        if done.returncode not in (0, 1):
            raise RuntimeError(f"the simulation cannot run: {done.stderr}")
        told = [line for line in done.stdout.splitlines() if line and not line.startswith((" ", "again:"))]
        return done.returncode == 1, told[-1][:160] if told else done.stderr[-160:]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 where a guard is missed by nobody."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60_000, help="at most, for each; %(default)s unless said")
    parser.add_argument("--jobs", type=int, default=2, help="at a time; %(default)s unless said")
    parser.add_argument("--only", default="", help="those with this in what they tell")
    args = parser.parse_args(argv)
    chosen = [mutation for mutation in MUTATIONS if args.only in str(mutation)]
    begun, missed = time.monotonic(), 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutation, (is_caught, told) in zip(
            chosen, pool.map(lambda mutation: caught(mutation, args.seed, args.steps), chosen), strict=True
        ):
            missed += not is_caught
            print(f"{'caught' if is_caught else 'MISSED'}  {mutation.file}: {mutation.why}: {told}", flush=True)
    print(f"{len(chosen)} guards taken away, {missed} not missed by anybody, {time.monotonic() - begun:.0f} s")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
