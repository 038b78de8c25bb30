"""`python -m tests.fuzz [TARGET ...]`: every parser, fed by atheris, led by coverage, from the kept corpus."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.engine import CORPUS
from tests.fuzz.keep import keep
from tests.fuzz.mutants import TOKENS
from tests.fuzz.targets import TARGETS

# libFuzzer's: a slow input is one that takes longer. A machine that is busy with much else may take a while for any.
_INPUT_TIMEOUT_S = 60
_MEMORY_MAX_MB = 2048


def main() -> int:
    """Exit status 1 where an input was found that must not be; it is printed, to be kept in the corpus."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all unless said: {', '.join(sorted(TARGETS))}")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target, %(default)s unless said")
    parser.add_argument("--seconds", type=int, default=0, help="for each target at most, without a limit unless said")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep in the corpus what reaches more of the code")
    args = parser.parse_args()
    unknown = set(args.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    good = [_fuzz(name, args) for name in args.targets or sorted(TARGETS)]
    return int(not all(good))


def _fuzz(name: str, args: argparse.Namespace) -> bool:
    """Fuzz one target in a process of its own, and print a line; False where something was found."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found")
        found.mkdir()
        tokens = Path(folder, "tokens")
        tokens.write_text("".join(f'"{_escaped(token)}"\n' for token in TOKENS if len(token) <= 64))
        options = [f"-runs={args.runs}", f"-seed={args.seed}", f"-max_total_time={args.seconds}", f"-dict={tokens}"]
        options += [f"-timeout={_INPUT_TIMEOUT_S}", f"-rss_limit_mb={_MEMORY_MAX_MB}", f"-artifact_prefix={folder}/"]
        options += ["-print_final_stats=1", "-verbosity=0"]
        command = [sys.executable, "-m", "tests.fuzz.engine", name, str(found), *options]
        begun_s = _children_s()
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        took_s = _children_s() - begun_s
        told = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
        inputs = int(told[1]) if told else 0
        verdict = f"FAILED ({done.returncode})" if done.returncode else "all is well"
        kept = f", {keep(name, found, CORPUS / name):,} more kept" if args.keep else ""
        print(
            f"{name}: {inputs:,} inputs, {inputs / took_s:,.0f} a second of the processor: {verdict}{kept}", flush=True
        )
        if done.returncode:
            print(done.stdout, done.stderr[-4000:], sep="\n")
            for path in Path(folder).glob("*-*"):  # crash-, timeout-, oom-
                print(f"the input: {path.read_bytes()!r}")
    return not done.returncode


def _children_s() -> float:
    """Seconds that the processor has given to the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    sys.exit(main())
