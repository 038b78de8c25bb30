"""A maintenance cycle of a long stream: 10 entries for 7 live actions, read, compared, trimmed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.child import BenchmarkError
from benchmarks.long_list import LongList
from benchmarks.rows import Row
from tests.support.servers import RedisServer

_CHANGED_SHARE = 3 / 7
_MEMORY_AIM_MB = 200.0


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Row]:
    """Ship a list, change the first three sevenths of it, then run cycles in turn with a bare reading."""
    mdt = LongList(folder, server, lines)
    mdt.forget_all()
    with mdt.worker() as worker:
        worker.run()
        changed = mdt.change(1, stop=round(lines * _CHANGED_SHARE))
        worker.run()
    floor = Row("floor: bare reading of the entries", memory_shown=False)
    cycle = Row("reconcile and trim", floor, 1.5, _MEMORY_AIM_MB)
    with mdt.maintenance() as maintenance, mdt.reading_entries(mdt.set_aside_key) as reading:
        for _ in range(repetitions):
            run = maintenance.run()
            if run.said != {"trimmed": changed, "live": lines, "healed": 0}:
                raise BenchmarkError(f"a cycle did {run.said}, of {changed} entries to trim")
            cycle.add(run, beside=reading.run())
    mdt.client.close()
    return [floor, cycle]
