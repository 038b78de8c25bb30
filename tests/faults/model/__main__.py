"""`python -m tests.faults.model --seed N --steps M`: so many steps, or one life again."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.faults.model.simulation import STEPS_IN_A_LIFE, first_failure, live, shrunk


def main() -> int:
    """Exit status 1 says that something went wrong, and how to see it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.model", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="which lives; %(default)s unless said")
    parser.add_argument("--steps", type=int, default=10_000, help="how many steps in all, %(default)s unless said")
    parser.add_argument("--life", help="one life only, as a failure names it")
    parser.add_argument("--only", help="with --life: the numbers of its steps, as a failure names them")
    parser.add_argument("--as-found", action="store_true", help="do not make a failure shorter")
    args = parser.parse_args()
    begun = time.monotonic()
    if args.life is not None:
        chosen = [int(step) for step in args.only.split(",")] if args.only else range(STEPS_IN_A_LIFE + 1)
        failure = live(args.life, chosen)
    else:
        failure = first_failure(args.seed, args.steps)
        if failure is not None and not args.as_found:
            print(f"{failure}\n-- made shorter:", flush=True)
            failure = shrunk(failure)
    if failure is not None:
        print("".join(traceback.format_exception(failure.error, limit=-8)), failure, sep="\n")
        return 1
    print(f"{args.life or f'{args.steps:,} steps of seed {args.seed}'}: all is well, {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
