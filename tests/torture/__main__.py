"""`python -m tests.torture --seed N`: the simulation, its guards taken away, and faults on real processes.

Exit status 1 on anything that was lost, duplicated, false, missed by nobody, or that did not show. The defaults end
within half an hour on two cores that have nothing else to do. `python -m tests.torture load` is load instead.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.faults import mutations
from tests.faults.model.simulation import first_failure, shrunk
from tests.support.servers import die_with_parent
from tests.torture import load, prometheus
from tests.torture.brokers import brokers_of
from tests.torture.runs import Order, Report, attack, wanted_kinds
from tests.torture.tables import Outcome, signs_table, table

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


def attack_sites(options: argparse.Namespace) -> bool:
    """Faults on real processes, on several sites at once; whether all is well."""
    begun_s = time.time()
    kinds = wanted_kinds(options.only)
    brokers = brokers_of(options.sites, {name for kind in kinds for name in kind.on})
    folder = Path(tempfile.mkdtemp(prefix="torture-prometheus"))
    alerting = prometheus.Prometheus(folder) if prometheus.is_installed() else None
    until_s = begun_s + 60 * options.minutes
    url, targets = (alerting.url, alerting.targets) if alerting else (None, folder)
    orders = [
        Order(number, brokers, options.seed * 100 + number, until_s, options.only, options.hold, url, targets)
        for number in range(options.sites)
    ]
    try:
        with ProcessPoolExecutor(options.sites, initializer=_end_well) as pool:
            reports = [*pool.map(attack, orders)]
    finally:
        if alerting is not None:
            alerting.close()
        shutil.rmtree(folder, ignore_errors=True)
    return _tell(reports, time.time() - begun_s, has_alerts=alerting is not None)


def _tell(reports: list[Report], took_s: float, *, has_alerts: bool) -> bool:
    """The tables, and what was wrong; whether all is well."""
    outcomes: dict[str, Outcome] = {}
    for report in reports:
        for name, outcome in report.outcomes.items():
            outcomes.setdefault(name, Outcome()).add(outcome)
    print(table(outcomes), signs_table(outcomes), sep="\n\n")
    done = {name: outcome.times for name, outcome in outcomes.items() if outcome.times}
    left_out = sorted({*outcomes} - {*done}) + ([] if has_alerts else ["alerts, without a prometheus"])
    print(f"\n{sum(done.values()):,} faults of {len(done)} kinds in {took_s:.0f} s; ", end="")
    print(f"not possible here: {', '.join(left_out) or 'nothing'}")
    complaints = [complaint for report in reports for complaint in report.complaints]
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    return not complaints and not any(outcome.is_bad for outcome in outcomes.values())


def _end_well() -> None:
    """Take the site along if this process, or the one that started it, is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    die_with_parent(signal.SIGTERM)


def main() -> int:
    """All three, or those that are not turned off by a 0; or load."""
    if sys.argv[1:2] == ["load"]:
        return load.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the simulation; %(default)s unless said")
    parser.add_argument("--mutation-steps", type=int, default=20_000, help="at most, for each guard; %(default)s")
    parser.add_argument("--minutes", type=float, default=15, help="of faults on real processes; %(default)s")
    parser.add_argument("--sites", type=int, default=10, help="attacked at once; %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="processes of the simulation; %(default)s")
    parser.add_argument("--only", default="", help="faults with this in their names")
    parser.add_argument("--hold", action="store_true", help="have each kind in turn last until it shows")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    good = True
    if args.steps:
        good &= simulate(args.seed, args.steps, args.jobs)
    if args.mutation_steps:
        options = ["--seed", str(args.seed), "--steps", str(args.mutation_steps), "--jobs", str(args.jobs)]
        good &= mutations.main(options) == 0
    if args.minutes:
        good &= attack_sites(args)
    print("all is well" if good else "something is wrong: see above")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
