"""`python -m tests.torture --seed N`: the simulation, its guards taken away, and faults on real processes.

Exit status 1 on anything that was lost, duplicated, false, or missed by nobody. The defaults end within half an hour on
two cores that have nothing else to do.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.faults import mutations
from tests.faults.model.simulation import first_failure, shrunk
from tests.support.servers import die_with_parent
from tests.torture.runs import Outcome, attack, said_table, table

_STEPS_IN_A_PART = 5_000


def simulate(seed: int, steps: int, jobs: int) -> bool:
    """The simulation, in several processes; whether all is well."""
    begun = time.monotonic()
    seeds = [seed * 1000 + part for part in range(max(1, steps // _STEPS_IN_A_PART))]
    with ProcessPoolExecutor(jobs) as pool:
        parts = pool.map(first_failure, seeds, [_STEPS_IN_A_PART] * len(seeds))
        for done, failure in enumerate(parts, 1):
            if done % 20 == 0:
                print(f"simulation: {done * _STEPS_IN_A_PART:,} steps, {time.monotonic() - begun:.0f} s", flush=True)
            if failure is not None:
                print(shrunk(failure))
                pool.shutdown(cancel_futures=True)
                return False
    print(f"simulation: {steps:,} steps, nothing wrong, {time.monotonic() - begun:.0f} s", flush=True)
    return True


def attack_sites(seed: int, sites: int, minutes: float, only: str) -> bool:
    """Faults on real processes, on several sites at once; whether all is well."""
    until_s = time.time() + 60 * minutes
    outcomes: dict[str, Outcome] = {}
    complaints: list[str] = []
    with ProcessPoolExecutor(sites, initializer=_end_well) as pool:
        for report in pool.map(attack, range(seed * 100, seed * 100 + sites), [until_s] * sites, [only] * sites):
            complaints += report.complaints
            for name, outcome in report.outcomes.items():
                outcomes.setdefault(name, Outcome()).add(outcome)
    print(table(outcomes), said_table(outcomes), sep="\n\n")
    left_out = sorted(name for name, outcome in outcomes.items() if not outcome.times)
    print(f"\nnot possible here: {', '.join(left_out) or 'nothing'}")
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    return not complaints and not any(outcome.is_bad for outcome in outcomes.values())


def _end_well() -> None:
    """Take the site along if this process, or the one that started it, is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    die_with_parent(signal.SIGTERM)


def main() -> int:
    """All three, or those that are not turned off by a 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the simulation; %(default)s unless said")
    parser.add_argument("--mutation-steps", type=int, default=20_000, help="at most, for each guard; %(default)s")
    parser.add_argument("--minutes", type=float, default=10, help="of faults on real processes; %(default)s")
    parser.add_argument("--sites", type=int, default=4, help="attacked at once; %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes of the simulation; %(default)s")
    parser.add_argument("--only", default="", help="faults with this in their names")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    good = True
    if args.steps:
        good &= simulate(args.seed, args.steps, args.jobs)
    if args.mutation_steps:
        options = ["--seed", str(args.seed), "--steps", str(args.mutation_steps), "--jobs", str(args.jobs)]
        good &= mutations.main(options) == 0
    if args.minutes:
        good &= attack_sites(args.seed, args.sites, args.minutes, args.only)
    print("all is well" if good else "something is wrong: see above")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
