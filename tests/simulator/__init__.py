"""Simulated Lustre metadata servers, for the demo, the tests and the benchmarks.

A `SimulatedMdt` has the records, the coordinator and the clock; a `SimulatedMds` is a folder that looks like a server's
/sys and shows the MDTs mounted on it. Scripted tests give commands to the MDT; a `Workload` gives them at random.

    mds = SimulatedMds(tmp_path)
    mdt = SimulatedMdt("elm-MDT0000")
    mdt.mount(mds)
    record = mdt.submit(ARCHIVE)
    mdt.start(record)
    mdt.write()             # a reader of mds.actions_path("elm-MDT0000") sees it STARTED
    mdt.finish(record)
    mdt.advance(71)         # past grace delay and loop period: deleted
    mdt.write()
"""

from .coordinator import DISABLED, ENABLED, INIT, STOPPED, STOPPING
from .mds import SimulatedMds
from .mdt import SimulatedMdt
from .records import (
    ARCHIVE,
    CANCEL,
    CANCELED,
    FAILED,
    IMPLICIT_RESTORE,
    REMOVE,
    RESTORE,
    STARTED,
    SUCCEED,
    WAITING,
    Record,
)
from .workload import DEFAULT_MIX, Workload, populate

__all__ = [
    "ARCHIVE",
    "CANCEL",
    "CANCELED",
    "DEFAULT_MIX",
    "DISABLED",
    "ENABLED",
    "FAILED",
    "IMPLICIT_RESTORE",
    "INIT",
    "REMOVE",
    "RESTORE",
    "STARTED",
    "STOPPED",
    "STOPPING",
    "SUCCEED",
    "WAITING",
    "Record",
    "SimulatedMds",
    "SimulatedMdt",
    "Workload",
    "populate",
]
