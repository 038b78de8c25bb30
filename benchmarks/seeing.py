"""What an operator waits for: reports on streams of 20 entries for 7 live actions, and the first frame of `top`.

A report on one stream stands beside reading its entries, and what several processes do beside one that does it all.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.child import BenchmarkError
from benchmarks.long_list import LongList
from benchmarks.rows import Row
from tests.support.servers import RedisServer

_CHANGED_TWICE_SHARE = 6 / 7
_MEMORY_AIM_BYTES = 300  # a live action, beside what a report on nothing takes
_TOP_AIM = 1.2
_STREAMS = 16
_SIDE_BY_SIDE_AIM = 0.65
# They differ by less than two runs of the same on a shared machine.
_COMMANDS_PER_REPETITION = 3


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Row]:
    """Report on one stream of a list, and on several that are as long together."""
    return [
        *_one_stream(folder, server, lines, repetitions),
        *_several(folder / "several", server, lines // _STREAMS, repetitions),
    ]


def _fill(mdt: LongList) -> None:
    """Ship a list, change all of it and then six sevenths again."""
    mdt.forget_all()
    with mdt.worker() as worker:
        worker.run()
        mdt.change(1)
        worker.run()
        mdt.change(1, stop=round(mdt.lines * _CHANGED_TWICE_SHARE))
        worker.run()


def _one_stream(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Row]:
    mdt = LongList(folder, server, lines)
    mdt.forget_all()
    with mdt.stats() as child:
        nothing = child.run()
    _fill(mdt)
    entries = mdt.client.xlen(mdt.key)
    floor = Row("floor: bare reading of the entries", memory_shown=False)
    stats = Row("hsm-stream-stats: a report", floor, 1.2, nothing.peak_mb + _MEMORY_AIM_BYTES * lines / 1e6)
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


def _several(folder: Path, server: RedisServer, lines_each: int, repetitions: int) -> list[Row]:
    folder.mkdir()
    mdt = LongList(folder, server, lines_each)
    _fill(mdt)
    mdt.copy_stream(_STREAMS - 1)
    rows = []
    for name, what in (("stats", "hsm-stream-stats"), ("top", "hsm-action-top")):
        one = Row(f"{what}: {_STREAMS} streams, one process", memory_shown=False)
        side_by_side = Row(f"{what}: {_STREAMS} streams side by side", one, _SIDE_BY_SIDE_AIM, memory_shown=False)
        with mdt.command(name, "--jobs", "1") as alone, mdt.command(name) as beside:
            for _ in range(_COMMANDS_PER_REPETITION * repetitions):
                side_by_side.add(beside.run(), beside=alone.run())
        rows += [one, side_by_side]
    mdt.client.close()
    return rows
