"""`python -m tests.fuzz TARGET --runs N`: atheris, led by coverage, from the kept corpus. Without a target: all."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
TARGETS = sorted(folder.name for folder in CORPUS.iterdir())
_INPUT_MAX_BYTES = 4096


def fuzz(name: str, runs: int, seed: int) -> None:
    """Does not come back: libFuzzer ends the process, with a status other than 0 if it found something."""
    import atheris

    with atheris.instrument_imports(include=["hsm_shipper", "hsm_tools"]):
        from tests.fuzz.targets import TARGETS as functions

    found = tempfile.mkdtemp()  # what covers more is kept there for this run; the corpus in the tree is not written to
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={_INPUT_MAX_BYTES}", "-print_final_stats=1", "-verbosity=0"]
    options.append(f"-artifact_prefix={found}/")
    atheris.Setup([sys.argv[0], *options, found, str(CORPUS / name)], functions[name])
    atheris.Fuzz()


def main() -> int:
    """Exit status 1 where an input was found that must not be; it is printed, to be kept in the corpus."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target, %(default)s unless said")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.target is not None:
        fuzz(args.target, args.runs, args.seed)
    failed = []
    for name in TARGETS:
        begun = time.monotonic()
        command = [sys.executable, "-m", "tests.fuzz", name, "--runs", str(args.runs), "--seed", str(args.seed)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        told = dict(line[6:].split(": ", 1) for line in done.stderr.splitlines() if line.startswith("stat::"))
        inputs = int(told.get("number_of_executed_units", 0))
        print(
            f"{name}: {inputs:,} inputs in {time.monotonic() - begun:.0f} s: {done.returncode or 'all is well'}",
            flush=True,
        )
        if done.returncode:
            failed.append(name)
            print(done.stdout, done.stderr[-4000:], sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
