"""Polls of one MDT with a long list: the first ship, nothing changed, some changed, all changed, gone, caught up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import redis

from benchmarks.child import BenchmarkError, Child, Run
from benchmarks.rows import Row
from tests.servers import RedisServer
from tests.simulator import (
    CANCELED,
    FAILED,
    STARTED,
    SUCCEED,
    WAITING,
    SimulatedMds,
    SimulatedMdt,
    populate,
)

_MDT = "elm-MDT0000"
_REDIS_DB = 1
_MEMORY_AIM_MB = 140.0
_STEADY_POLLS = 2
_EVERY = 100  # one line of so many changes: 1 %
# A change of every status, so that any record can change at any time, and again.
_NEXT_STATUS = {WAITING: STARTED, STARTED: WAITING, SUCCEED: FAILED, FAILED: CANCELED, CANCELED: SUCCEED}


class _Mdt:
    """A long list, and what its worker and its floors need."""

    def __init__(self, folder: Path, server: RedisServer, lines: int) -> None:
        self.client: redis.Redis = server.client(_REDIS_DB)
        self.lines = lines
        self._state_dir = folder / "state"
        self._config = folder / "hsm-shipper.yaml"
        keys = {"redis_url": f"{server.url}/{_REDIS_DB}", "state_dir": str(self._state_dir), "host": "mds1"}
        self._config.write_text(json.dumps(keys))  # JSON is YAML
        self._mdt = SimulatedMdt(_MDT)
        populate(self._mdt, lines)
        self._mds = SimulatedMds(folder / "mds")
        self._actions = self._mds.actions_path(_MDT)
        self._mdt.mount(self._mds)

    def worker(self) -> Child:
        """A process that polls it, as the worker's does."""
        return Child("benchmarks.poll_child", self._config, _MDT, self._actions)

    def reading(self) -> Child:
        """The floor of a poll without much change."""
        return Child("benchmarks.floors", "reading", self._actions)

    def pipeline(self) -> Child:
        """The floor of the first ship, of which the stream must be there."""
        return Child("benchmarks.floors", "pipeline", self._config, _MDT)

    def forget_all(self) -> None:
        """No stream and no state; the list is whole."""
        self.client.flushdb()
        self.forget_state()
        self._mdt.write()

    def forget_state(self) -> None:
        """No state file, as on a server that the MDT has just come to."""
        shutil.rmtree(self._state_dir, ignore_errors=True)
        self._state_dir.mkdir()

    def change(self, step: int, first: int = 0) -> int:
        """Give every `step`-th record another status; returns how many have changed."""
        records = self._mdt.records()[first::step]
        for record in records:
            self._mdt.set_status(record, _NEXT_STATUS[record.status])
        self._mdt.write()
        return len(records)

    def empty(self) -> None:
        """Show a listing without a line."""
        self._mds.write_actions(_MDT, [])


class _Rows:
    """What is measured, in the order of the table."""

    def __init__(self) -> None:
        self.reading = Row("floor: read, split, MD5, look up", memory_shown=False)
        self.unchanged = Row("unchanged poll", self.reading, 1.2, _MEMORY_AIM_MB)
        self.changed = Row("1 % changed poll", self.reading, 1.35, _MEMORY_AIM_MB)
        self.restarted = Row("first poll after a restart, unchanged")
        self.pipeline = Row("floor: bare pipeline of the same XADDs", memory_shown=False)
        self.first_ship = Row("first ship", self.pipeline, 1.4, _MEMORY_AIM_MB)
        self.caught_up = Row("first poll without state: stream folded")
        self.all_changed = Row("all lines changed at once")
        self.emptied = Row("emptied list, not believed yet")
        self.purged = Row("emptied list, believed: all purged")


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int) -> list[Row]:
    """Run every kind of poll in turn with its floor, `repetitions` times; slow ones without an aim half as often."""
    mdt = _Mdt(folder, server, lines)
    rows = _Rows()
    for repetition in range(repetitions):
        mdt.forget_all()
        _ship_first(mdt, rows)
        _change_nothing(mdt, rows)
        _change_some(mdt, rows, repetition)
        if repetition % 2 == 0:
            _catch_up(mdt, rows)
            _change_all(mdt, rows)
            _purge(mdt, rows)
    mdt.client.close()
    return list(vars(rows).values())


def _ship_first(mdt: _Mdt, rows: _Rows) -> None:
    with mdt.worker() as worker:
        rows.first_ship.runs.append(_poll(worker, NEW=mdt.lines))
    with mdt.pipeline() as floor:
        rows.pipeline.runs.append(floor.run())


def _change_nothing(mdt: _Mdt, rows: _Rows) -> None:
    with mdt.worker() as worker, mdt.reading() as floor:
        rows.restarted.runs.append(_poll(worker))
        for _ in range(_STEADY_POLLS):
            rows.unchanged.runs.append(_poll(worker))
            rows.reading.runs.append(floor.run())


def _change_some(mdt: _Mdt, rows: _Rows, repetition: int) -> None:
    with mdt.worker() as worker, mdt.reading() as floor:
        _poll(worker)
        count = mdt.change(_EVERY, first=repetition % _EVERY)
        rows.reading.runs.append(floor.run())
        rows.changed.runs.append(_poll(worker, UPDATE=count))


def _catch_up(mdt: _Mdt, rows: _Rows) -> None:
    mdt.forget_state()
    with mdt.worker() as worker:
        rows.caught_up.runs.append(_poll(worker))


def _change_all(mdt: _Mdt, rows: _Rows) -> None:
    with mdt.worker() as worker:
        _poll(worker)
        count = mdt.change(1)
        rows.all_changed.runs.append(_poll(worker, UPDATE=count))


def _purge(mdt: _Mdt, rows: _Rows) -> None:
    with mdt.worker() as worker:
        _poll(worker)
        mdt.empty()
        rows.emptied.runs.append(_poll(worker))
        rows.purged.runs.append(_poll(worker, PURGED=mdt.lines))


def _poll(worker: Child, **expected: int) -> Run:
    """One poll; what it shipped must be what there was to ship, or its time means nothing."""
    run = worker.run()
    expected = {kind: count for kind, count in expected.items() if count}
    if run.said != expected:
        raise BenchmarkError(f"a poll shipped {run.said}, not {expected}")
    return run
