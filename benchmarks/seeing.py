"""What an operator waits for: a report on a stream of 20 entries for 7 live actions, beside reading its entries."""

from __future__ import annotations

from pathlib import Path

from benchmarks.child import BenchmarkError
from benchmarks.long_list import LongList
from benchmarks.rows import Row
from tests.support.servers import RedisServer

_CHANGED_TWICE_SHARE = 6 / 7
_MEMORY_AIM_MB = 300.0
_TOP_AIM = 1.2
# They differ by less than two runs of the same on a shared machine.
_COMMANDS_PER_REPETITION = 3


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Row]:
    """Ship a list, change all of it and then six sevenths again, and report in turn with a bare reading."""
    mdt = LongList(folder, server, lines)
    mdt.forget_all()
    with mdt.worker() as worker:
        worker.run()
        mdt.change(1)
        worker.run()
        mdt.change(1, stop=round(lines * _CHANGED_TWICE_SHARE))
        worker.run()
    entries = mdt.client.xlen(mdt.key)
    floor = Row("floor: bare reading of the entries", memory_shown=False)
    stats = Row("hsm-stream-stats: a report", floor, 1.2, _MEMORY_AIM_MB)
    with mdt.reading_entries(mdt.key) as reading:
        for _ in range(repetitions):
            with mdt.stats() as child:  # each report is a process of its own: its memory is that of one
                run = child.run()
            if run.said != {"replayed": entries, "live": lines}:
                raise BenchmarkError(f"a report found {run.said}, of {entries} entries for {lines} actions")
            stats.add(run, beside=reading.run())
    report = Row("hsm-stream-stats: the command", memory_shown=False)
    frame = Row("hsm-action-top: to the first live frame", report, _TOP_AIM, memory_shown=False)
    with mdt.command("stats") as reporting, mdt.command("top") as topping:
        for _ in range(_COMMANDS_PER_REPETITION * repetitions):
            frame.add(topping.run(), beside=reporting.run())
    mdt.client.close()
    return [floor, stats, report, frame]
