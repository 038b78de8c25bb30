"""`python -m tests.simulator`: a live tree below a folder, for trying the shipper by hand without Lustre."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from . import SimulatedMds, SimulatedMdt, Workload, populate

_MEAN_WORK_S = 20.0
_MEAN_LIFE_S = 100.0
"""How long a record lives: a wait, the work, and the grace delay. So many seconds of arrivals make up the list."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep a server's tree alive until the duration is over or somebody interrupts."""
    options = _parse(arguments)
    mds = SimulatedMds(options.root.absolute())
    workloads = [_mounted_workload(mds, number, options.requests, options.seed) for number in range(options.mdts)]
    print(f"watch {mds.watch_glob}", flush=True)
    started_at = time.monotonic()
    turn = 0
    try:
        while options.duration is None or turn * options.interval < options.duration:
            turn += 1
            time.sleep(max(0.0, started_at + turn * options.interval - time.monotonic()))
            for workload in workloads:
                # The longer the list, the fewer ask: it stays near the size wanted, with a queue in it.
                fullness = max(1, len(workload.mdt)) / options.requests
                workload.arrivals_per_s = options.requests / _MEAN_LIFE_S / fullness
                workload.advance(options.step)
                workload.mdt.write()
            sizes = ", ".join(f"{workload.mdt.name} {len(workload.mdt)}" for workload in workloads)
            print(f"{turn * options.step:g} s simulated; records: {sizes}", flush=True)
    except KeyboardInterrupt:
        pass
    print(f"stopped; the tree stays as it is in {mds.root}")


def _mounted_workload(mds: SimulatedMds, number: int, requests: int, seed: int) -> Workload:
    arrivals_per_s = requests / _MEAN_LIFE_S
    mdt = SimulatedMdt(f"sim-MDT{number:04x}", seed, max_requests=max(1, round(arrivals_per_s * _MEAN_WORK_S)))
    populate(mdt, requests)
    mdt.mount(mds)
    return Workload(mdt, arrivals_per_s=arrivals_per_s, mean_work_s=_MEAN_WORK_S)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator",
        description="Simulate a Lustre metadata server: write the HSM action lists of some MDTs below a folder, and "
        "keep them changing as requests come, run, finish and go. Point the shipper's mdt_watch_glob at the glob that "
        "is printed first. Simulated time runs in steps, so that it can go faster than the clock on the wall.",
        epilog="example: python -m tests.simulator --root /tmp/mds --mdts 3 --requests 5000 --step 10 --interval 1",
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="the folder to write the tree below")
    parser.add_argument("--mdts", type=_positive_int, default=1, metavar="N", help="MDTs on the server (default: 1)")
    parser.add_argument(
        "--requests",
        type=_positive_int,
        default=1000,
        metavar="N",
        help="records in the list of each MDT, about; a hundredth of them arrives per simulated second (default: 1000)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another history (default: 0)")
    parser.add_argument(
        "--step", type=_positive, default=10.0, metavar="S", help="simulated seconds between writes (default: 10)"
    )
    parser.add_argument(
        "--interval", type=_positive, default=1.0, metavar="S", help="real seconds between writes (default: 1)"
    )
    parser.add_argument(
        "--duration", type=_positive, metavar="S", help="real seconds until it stops (default: until interrupted)"
    )
    return parser.parse_args(arguments)


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return number


if __name__ == "__main__":
    main()
