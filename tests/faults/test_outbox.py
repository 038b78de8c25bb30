"""A worker that is killed at any step while states wait or are appended late: each of them is said once, in order."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hsm_shipper.worker.outbox import OutboxBound
from tests.faults.model.life import Life, Mdt, Worker
from tests.faults.model.list_steps import set_status
from tests.faults.model.machine import Fault, Machine
from tests.faults.model.reference import event_of
from tests.faults.model.sizes import Sizes

SEEN = [
    "NEW 1 WAITING", "NEW 2 WAITING", "NEW 3 WAITING",
    "UPDATE 1 STARTED", "NEW 4 WAITING",
    "PURGED 4 WAITING", "UPDATE 1 SUCCEED",
    "PURGED 1 SUCCEED", "NEW 5 WAITING",
]  # fmt: skip
"""What the polls of `_live` see."""
POINTS = ("send", "reply", "statement", "statement done", "file")
FAULTS = {"kill": POINTS, "lost": ("send", "reply"), "full": ("statement",)}


@contextlib.contextmanager
def _life(folder: Path, send_s: float) -> Iterator[tuple[Life, Mdt, Worker]]:
    machine = Machine()
    with machine.installed():
        life = Life(folder, machine, Sizes(bound=OutboxBound(send_s=send_s)), mdts=1, tells_deleted=True)
        try:
            yield life, life.mdts[0], life.worker(life.mdts[0])
        finally:
            machine.current = machine.fault = None
            life.close()


def _change(mdt: Mdt, step: int) -> None:
    if step == 0:
        for rec in (1, 2, 3):
            mdt.put((1, rec), rec, "ARCHIVE", "WAITING")
    elif step == 1:
        set_status(mdt, (1, 1), "STARTED")
        mdt.put((1, 4), 4, "ARCHIVE", "WAITING")
    elif step == 2:
        set_status(mdt, (1, 1), "SUCCEED")
        del mdt.lines[1, 4]
    else:
        del mdt.lines[1, 1]
        mdt.put((1, 5), 5, "ARCHIVE", "WAITING")


def _arm(life: Life, fault: str, point: str, after: int) -> None:
    def act(at: object) -> None:
        if fault == "kill":
            life.machine.kill()
        elif fault == "lost":
            raise redis.ConnectionError("Connection closed by server.")
        else:
            at.fail(sqlite3.SQLITE_FULL)  # type: ignore[attr-defined]

    life.machine.fault = Fault(point, after, act)


def _told(life: Life, mdt: Mdt) -> list[str]:
    stream = life.stream(mdt)
    assert stream is not None
    events = [event_of(fields) for fields in stream.fields]
    return [
        f"{event['event_type']} {event['rec_idx']} {event.get('last_status', event['status'])}"
        for event in events
        if event is not None
    ]


def _live(folder: Path, fault: str, point: str, after: int, send_s: float) -> tuple[bool, list[str]]:
    """An outage of three polls, and a fault at the n-th time that a poll of it or behind it comes by `point`.

    A poll that a fault has ended is made once more before the list changes. Whether the fault came to pass, and what
    the stream says.
    """
    with _life(folder, send_s) as (life, mdt, worker):
        _change(mdt, 0)
        worker.poll()
        worker.poll()
        _arm(life, fault, point, after)
        for step in (1, 2, 3):
            life.is_down = True
            _change(mdt, step)
            armed = life.machine.fault
            result = worker.poll()
            if life.machine.fault is not armed or result is None:
                worker.poll()
        life.is_down = False
        for _ in range(10):
            worker.replica.batch.events = 2
            worker.poll()
        came = life.machine.fault is None
        life.machine.fault = None
        life.check(mdt, worker)
        return came, _told(life, mdt)


@pytest.mark.parametrize("send_s", [0.0, 10.0], ids=["in parts", "at once"])
@pytest.mark.parametrize(("fault", "point"), [(fault, point) for fault, points in FAULTS.items() for point in points])
def test_every_state_is_said_once_and_in_order(tmp_path: Path, fault: str, point: str, send_s: float) -> None:
    after, came = 0, True
    while came:
        folder = tmp_path / str(after)
        folder.mkdir()
        came, told = _live(folder, fault, point, after, send_s)
        assert told == SEEN, f"{fault} at {point} {after}"
        after += 1
    assert after > 2
