"""Polls of one MDT with a long list: the first ship, nothing changed, some changed, all changed, gone, caught up."""

from __future__ import annotations

from pathlib import Path

from benchmarks.child import BenchmarkError, Child, Run
from benchmarks.long_list import LongList
from benchmarks.processes import worker_memory_aim_mb
from benchmarks.rows import Row
from tests.support.servers import RedisServer

_MEMORY_AIM_OF_MANY_MB = 100.0  # where every line changes, or is folded from the stream
_STEADY_POLLS = 2
_CATCH_UPS = 2
_EVERY = 100  # one line of so many changes: 1 %


class _Rows:
    """What is measured, in the order of the table."""

    def __init__(self, lines: int) -> None:
        memory_aim_mb = worker_memory_aim_mb(lines)
        self.reading = Row("floor: read, split, MD5, look up", memory_shown=False)
        self.unchanged = Row("unchanged poll", self.reading, 0.25, memory_aim_mb)
        self.region = Row("1 % changed in one region", self.reading, 0.35, memory_aim_mb)
        self.scattered = Row("1 % changed all over the list", self.reading, 0.9, memory_aim_mb)
        self.restarted = Row("first poll after a restart, unchanged")
        self.pipeline = Row("floor: bare pipeline of the same XADDs", memory_shown=False)
        self.first_ship = Row("first ship", self.pipeline, 1.0, memory_aim_mb)
        self.bare_read = Row("floor: bare reading of the entries", memory_shown=False)
        self.caught_up = Row("catch-up of a lost state", self.bare_read, 1.3, _MEMORY_AIM_OF_MANY_MB)
        self.without_state = Row("first poll without state: catch-up and list", memory_aim_mb=_MEMORY_AIM_OF_MANY_MB)
        self.all_changed = Row("all lines changed at once", self.first_ship, 2.0, _MEMORY_AIM_OF_MANY_MB)
        self.emptied = Row("emptied list, not believed yet")
        self.purged = Row("emptied list, believed: all purged", memory_aim_mb=_MEMORY_AIM_OF_MANY_MB)


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Row]:
    """Run every kind of poll in turn with its floor, `repetitions` times; slow ones without an aim half as often."""
    mdt = LongList(folder, server, lines)
    rows = _Rows(lines)
    for repetition in range(repetitions):
        mdt.forget_all()
        first_ship = _ship_first(mdt, rows)
        _change_nothing(mdt, rows)
        _change_some(mdt, rows, repetition)
        if repetition % 2 == 0:
            _catch_up(mdt, rows)
            _change_all(mdt, rows, first_ship)
            _purge(mdt, rows)
    mdt.client.close()
    return list(vars(rows).values())


def _ship_first(mdt: LongList, rows: _Rows) -> Run:
    with mdt.worker() as worker:
        first = _poll(worker, NEW=mdt.lines)
    with mdt.pipeline() as floor:
        rows.first_ship.add(first, beside=floor.run())
    return first


def _change_nothing(mdt: LongList, rows: _Rows) -> None:
    with mdt.worker() as worker, mdt.reading() as floor:
        rows.restarted.add(_poll(worker))
        for _ in range(_STEADY_POLLS):
            rows.unchanged.add(_poll(worker), beside=floor.run())


def _change_some(mdt: LongList, rows: _Rows, repetition: int) -> None:
    with mdt.worker() as worker, mdt.reading() as floor:
        _poll(worker)
        middle = mdt.lines // 2
        count = mdt.change(1, first=middle, stop=middle + mdt.lines // _EVERY)
        rows.region.add(_poll(worker, UPDATE=count), beside=floor.run())
    with mdt.worker() as worker, mdt.reading() as floor:
        _poll(worker)
        count = mdt.change(_EVERY, first=repetition % _EVERY)
        rows.scattered.add(_poll(worker, UPDATE=count), beside=floor.run())


def _catch_up(mdt: LongList, rows: _Rows) -> None:
    with mdt.catching_up() as replica, mdt.reading_entries(mdt.key) as floor:
        for _ in range(_CATCH_UPS):
            run = replica.run()
            if run.said != {"live": mdt.lines}:
                raise BenchmarkError(f"a catch-up found {run.said}, of {mdt.lines} actions")
            rows.caught_up.add(run, beside=floor.run())
    mdt.forget_state()
    with mdt.worker() as worker:
        rows.without_state.add(_poll(worker))


def _change_all(mdt: LongList, rows: _Rows, first_ship: Run) -> None:
    with mdt.worker() as worker:
        _poll(worker)
        count = mdt.change(1)
        rows.all_changed.add(_poll(worker, UPDATE=count), beside=first_ship)


def _purge(mdt: LongList, rows: _Rows) -> None:
    with mdt.worker() as worker:
        _poll(worker)
        mdt.empty()
        rows.emptied.add(_poll(worker))
        rows.purged.add(_poll(worker, PURGED=mdt.lines))


def _poll(worker: Child, **expected: int) -> Run:
    """One poll; what it shipped must be what there was to ship, or its time means nothing."""
    run = worker.run()
    expected = {kind: count for kind, count in expected.items() if count}
    if run.said != expected:
        raise BenchmarkError(f"a poll shipped {run.said}, not {expected}")
    return run
