"""Polls without Redis: what they see waits, and is in the stream in order when Redis is back."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest
import redis

from hsm_shipper.errors import OutboxFull, StateUnwritable
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.outbox import OutboxBound
from hsm_shipper.worker.stream_replica import StreamReplica
from tests.conftest import PrivateServer
from tests.support.core import (
    FullDisk,
    OneMdt,
    Opener,
    Wire,
    add,
    line,
    lines,
    shipper_client,
)
from tests.support.outage import LISTING, OUTAGE, TOLD, bounded, drained, fail, filled, go_without_redis, missed


class Clock:
    """The time of day."""

    def __init__(self) -> None:
        self.now_s = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands still unless it is moved."""
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
def mdt(mdt: OneMdt) -> OneMdt:
    """An MDT whose six actions are in the stream."""
    return filled(mdt)


def test_states_that_come_and_go_without_redis_are_in_the_stream(mdt: OneMdt, wire: Wire) -> None:
    go_without_redis(mdt, wire)
    result = mdt.poll(*OUTAGE[-1])
    assert mdt.told() == TOLD
    assert (result.events, result.states_missed, result.backlog) == (Counter(UPDATE=2, NEW=3, PURGED=2), 0, 0)
    mdt.check(*OUTAGE[-1])


def test_each_has_the_time_of_the_poll_that_saw_it(mdt: OneMdt, wire: Wire, clock: Clock) -> None:
    began = int(clock.now_s)
    wire.down = True
    for listing in OUTAGE:
        fail(mdt, *listing)
        clock.now_s += 20
    wire.down = False
    mdt.poll(*OUTAGE[-1])
    events = mdt.events()
    assert [event["timestamp"] - began for event in events] == [0, 0, 20, 20, 40, 40, 40]
    succeeded = events[3]
    assert (succeeded["status"], succeeded["status_since"] - began) == ("SUCCEED", 20)
    assert [event["first_seen"] - began for event in events[5:]] == [40, 40]


def test_what_the_first_poll_with_redis_sees_comes_behind(mdt: OneMdt, wire: Wire) -> None:
    go_without_redis(mdt, wire, OUTAGE[:1])
    mdt.poll(line(1, "FAILED"), *LISTING[1:])
    assert mdt.told() == [*TOLD[:2], "PURGED 1/8 WAITING", "UPDATE 1/1 FAILED"]


@pytest.mark.parametrize("restarts", [1, 3])
def test_what_waits_outlives_the_worker(mdt: OneMdt, wire: Wire, restarts: int) -> None:
    wire.down = True
    for number, listing in enumerate(OUTAGE):
        fail(mdt, *listing)
        if number < restarts:
            mdt.restart()
    wire.down = False
    mdt.poll(*OUTAGE[-1])
    assert mdt.told() == TOLD
    mdt.check(*OUTAGE[-1])


def test_a_real_server_that_is_stopped_and_started(tmp_path: Path, private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes")
    mdt = filled(OneMdt(tmp_path / "mds1", shipper_client(server, 0)))
    for _ in range(2):
        server.stop()
        for listing in OUTAGE:
            fail(mdt, *listing)
        server.start()
        mdt.poll(*LISTING)
        assert mdt.told()[: len(TOLD)] == TOLD
        mdt.check(*LISTING)


def test_what_waits_is_told(mdt: OneMdt, wire: Wire, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    began = clock.now_s
    wire.down = True
    fail(mdt, *OUTAGE[0])
    clock.now_s += 300
    result = fail(mdt, *OUTAGE[1])
    assert (result.backlog, result.backlog_since, result.not_kept) == (4, began, 0)
    assert "4 changes wait for Redis, the first for 5 min" in str(result)
    status = mdt.replica.saved_status()
    assert status is not None
    assert (status.backlog, status.backlog_since) == (4, began)
    wire.down = False
    mdt.poll(*OUTAGE[1])
    status = mdt.replica.saved_status()
    assert status is not None
    assert (status.backlog, status.backlog_since) == (0, None)
    assert "in step again after 2 polls without Redis: 4 events that waited are appended, 0 states" in caplog.text
    assert "(2 changes wait for Redis, the first for 0 s)" in caplog.text


def test_what_waits_is_told_while_the_state_file_cannot_be_used(
    mdt: OneMdt, wire: Wire, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.down = True
    began = int(clock.now_s)
    fail(mdt, *OUTAGE[0])
    clock.now_s += 60.0

    def unusable(*_: object) -> None:
        raise StateUnwritable("cannot open state file: unable to open database file")

    mdt.replica.close()
    monkeypatch.setattr(StreamReplica, "open", unusable)
    for _ in range(2):
        result = mdt.poller.poll()
        assert isinstance(result.error, StateUnwritable)
        assert (result.backlog, result.backlog_since) == (2, began)


def test_a_quiet_poll_of_a_long_outage_looks_at_nothing_that_waits(mdt: OneMdt, wire: Wire) -> None:
    wire.down = True
    for _ in range(2):
        fail(mdt, *OUTAGE[0])
    statements: list[str] = []
    connection = mdt.replica._opened._connection
    connection.set_trace_callback(statements.append)
    fail(mdt, *OUTAGE[0])
    assert not [statement for statement in statements if "outbox" in statement and "poll_status" not in statement]


def test_a_poll_of_its_own_says_nothing_of_an_outbox_that_is_empty(
    mdt: OneMdt, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mdt.poll(*LISTING)
    assert "wait" not in str(mdt.poll(*LISTING))
    assert "step again" not in caplog.text


# What may wait.


@pytest.mark.parametrize("bound", [OutboxBound(events=3), OutboxBound(bytes=1700)], ids=["events", "bytes"])
def test_what_has_no_room_is_counted(
    mdt: OneMdt, wire: Wire, bound: OutboxBound, caplog: pytest.LogCaptureFixture
) -> None:
    bounded(mdt, bound)
    wire.down = True
    fail(mdt, *OUTAGE[0])
    result = fail(mdt, *OUTAGE[1])
    assert (result.backlog, result.not_kept) == (4, 1)
    fail(mdt, *OUTAGE[0])
    wire.down = False
    mdt.poll(*LISTING)
    assert missed(mdt) == 2  # 1/1 SUCCEED, and 1/8 once more
    assert mdt.told() == [*TOLD[:3], "UPDATE 1/1 WAITING"]
    assert caplog.text.count("is full with 3 events") == 1
    mdt.check(*LISTING)


def test_there_is_room_again_once_it_was_appended(mdt: OneMdt, wire: Wire) -> None:
    bounded(mdt, OutboxBound(events=3))
    for _ in range(2):
        go_without_redis(mdt, wire)
        mdt.poll(*LISTING)
        assert mdt.told()[:2] == TOLD[:2]
    mdt.check(*LISTING)


def _refuse_all(mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture, *listing: bytes) -> None:
    """One poll without Redis that finds no room for anything."""
    caplog.clear()
    go_without_redis(mdt, wire, [list(listing)])
    assert "is full with 0 events" in caplog.text
    assert mdt.replica.waiting.events == 0


def test_there_is_room_again_where_nothing_waits(mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """With more changes at once than may wait, Redis is back to nothing that could be taken out."""
    bounded(mdt, OutboxBound(events=3))
    many = lines(range(100, 104))
    for restore in (lambda: mdt.poll(*LISTING), lambda: None):  # also in the same outage
        _refuse_all(mdt, wire, caplog, *LISTING, *many)
        restore()
        wire.down = True
        fail(mdt, *OUTAGE[0])
        assert mdt.replica.waiting.events == 2
        wire.down = False
        mdt.poll(*LISTING)
        assert mdt.told() == [*TOLD[:2], "PURGED 1/8 WAITING", "UPDATE 1/1 WAITING"]
    mdt.check(*LISTING)


def test_there_is_room_again_once_it_was_found_in_the_stream(
    mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """The reply to the append of all that waited was lost, and Redis with it; then it was away again."""
    bounded(mdt, OutboxBound(events=3))
    go_without_redis(mdt, wire)
    assert mdt.replica.outbox.is_full
    wire.lose_reply = True
    fail(mdt, *LISTING)
    mdt.poll(*LISTING)
    mdt.told()
    wire.down = True
    fail(mdt, *OUTAGE[0])
    assert mdt.replica.waiting.events == 2


def test_nothing_waits_behind_a_gap(mdt: OneMdt, wire: Wire) -> None:
    """What would have room, had nothing before it been without."""
    bounded(mdt, OutboxBound(events=4))
    wire.down = True
    for listing in (OUTAGE[0], [*OUTAGE[0], *lines(range(100, 103))], [*OUTAGE[0], line(100)]):
        fail(mdt, *listing)
    assert mdt.replica.waiting.events == 2


@pytest.mark.parametrize("bound", [OutboxBound(events=0), OutboxBound(bytes=0)], ids=["events", "bytes"])
def test_nothing_waits_where_nothing_may(mdt: OneMdt, wire: Wire, bound: OutboxBound) -> None:
    bounded(mdt, bound)
    go_without_redis(mdt, wire)
    mdt.poll(*OUTAGE[-1])
    assert missed(mdt) == 3
    assert mdt.told() == ["PURGED 1/1 WAITING", "NEW 1/8 WAITING", "NEW 1/9 WAITING"]


def test_nothing_waits_before_it_is_known_what_the_stream_says(tmp_path: Path, client: redis.Redis, wire: Wire) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    go_without_redis(mdt, wire)
    assert mdt.replica.waiting.events == 0
    mdt.poll(*OUTAGE[-1])
    assert missed(mdt) == 3
    mdt.check(*OUTAGE[-1])


def test_a_full_disk_has_what_it_has_no_room_for_counted(
    tmp_path: Path, client: redis.Redis, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk(monkeypatch)
    mdt = filled(OneMdt(tmp_path / "mds1", client))
    wire.down = True
    disk.fill()
    listing = lines(range(100, 400))
    result = fail(mdt, *LISTING, *listing)
    assert result.not_kept == len(listing)
    assert "what Redis does not take cannot wait: cannot write state file" in caplog.text
    disk.make_room()
    fail(mdt, *OUTAGE[0])
    wire.down = False
    mdt.poll(*LISTING)
    assert missed(mdt) == len(listing)
    assert mdt.told() == [*TOLD[:2], "PURGED 1/8 WAITING", "UPDATE 1/1 WAITING"]


# What is appended in parts.


def test_what_takes_long_to_append_is_left_to_the_next_polls(mdt: OneMdt, wire: Wire) -> None:
    bounded(mdt, OutboxBound(send_s=0))
    go_without_redis(mdt, wire)
    told = []
    for status in ("STARTED", "FAILED", "SUCCEED"):
        mdt.replica.batch.events = 3
        result = mdt.poll(line(2, status), *OUTAGE[-1][1:])
        told.append(mdt.told())
        assert result.backlog == 7 + len(told) - sum(map(len, told))
    told += drained(mdt)
    assert list(chain(*told)) == [*TOLD, "UPDATE 1/2 STARTED", "UPDATE 1/2 FAILED", "UPDATE 1/2 SUCCEED"]
    assert len(told[0]) == 3
    mdt.check(line(2, "SUCCEED"), *OUTAGE[-1][1:])


def test_what_has_no_room_while_the_rest_is_appended_is_said(mdt: OneMdt, wire: Wire) -> None:
    bounded(mdt, OutboxBound(events=7, send_s=0))
    go_without_redis(mdt, wire)
    mdt.replica.batch.events = 1
    mdt.shows(*OUTAGE[0])
    result = mdt.poller.poll()
    assert isinstance(result.error, OutboxFull)
    assert result.not_kept
    assert result.backlog == 6 + 4  # what is left of the seven, and what this list says, kept or not
    drained(mdt)
    mdt.poll(*OUTAGE[0])
    mdt.check(*OUTAGE[0])


@pytest.mark.parametrize("good", [1, 2])
@pytest.mark.parametrize("fault", ["lose_reply", "down"])
def test_redis_leaves_in_the_middle_of_a_poll(
    tmp_path: Path, client: redis.Redis, wire: Wire, fault: str, good: int
) -> None:
    """Behind so many good batches: the next one is in the stream or not, and the rest waits."""
    mdt = OneMdt(tmp_path / "mds1", client)
    for _ in range(2):
        mdt.poll(*lines(range(1, 1501)))
    mdt.told()

    def append(left: int) -> None:
        if left:
            wire.before_append = lambda: append(left - 1)
        else:
            setattr(wire, fault, True)

    wire.before_append = lambda: append(good)
    fail(mdt, *lines(range(600, 4100), "STARTED"))
    wire.down = True
    fail(mdt, *lines(range(600, 4100), "FAILED"))
    wire.down = False
    last = lines(range(600, 4100), "SUCCEED")
    mdt.poll(*last)
    told = Counter(told.split()[0] for told in mdt.told())
    assert told == {"PURGED": 599, "UPDATE": 901 + 2 * 3500, "NEW": 2599}
    mdt.check(*last)


def free_pages(state: Path) -> int:
    """Of a state file, beside what its log holds."""
    with closing(sqlite3.connect(state)) as connection:
        return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def test_the_disk_gets_back_what_a_long_outbox_took(mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    outage = [[*LISTING, *lines(range(100, 200), status)] for status in ("WAITING", "STARTED", "SUCCEED")]
    go_without_redis(mdt, wire, outage)
    mdt.poll(*outage[-1])
    assert free_pages(mdt.state) > 20  # too little to be worth it
    monkeypatch.setattr("hsm_shipper.state.state_file.LOG_MAX_BYTES", 0)
    go_without_redis(mdt, wire, outage)
    mdt.poll(*outage[-1])
    assert free_pages(mdt.state) < 5
    mdt.replica.catch_up()  # and the worker goes on
    mdt.check(*outage[-1])


@pytest.mark.parametrize("fate", ["dropped", "found"])
def test_the_disk_gets_it_back_however_it_ended(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    monkeypatch.setattr("hsm_shipper.state.state_file.LOG_MAX_BYTES", 0)
    outage = [[*LISTING, *lines(range(100, 200), status)] for status in ("WAITING", "STARTED", "SUCCEED")]
    go_without_redis(mdt, wire, outage)
    assert mdt.replica.waiting.events == 300
    if fate == "dropped":
        mdt.client.flushdb()
    else:
        wire.lose_reply = True
        fail(mdt, *outage[-1])
    mdt.poll(*outage[-1])
    assert mdt.replica.waiting.events == 0
    assert free_pages(mdt.state) < 5
    assert mdt.replica.is_open
    mdt.check(*outage[-1])


def test_what_the_disk_did_not_get_back_it_gets_behind_the_next_catch_up(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried where the worker has to look at its stream anyway."""
    outage = [[*LISTING, *lines(range(100, 200), status)] for status in ("WAITING", "STARTED", "SUCCEED")]
    go_without_redis(mdt, wire, outage)
    mdt.poll(*outage[-1])
    assert free_pages(mdt.state) > 20
    monkeypatch.setattr("hsm_shipper.state.state_file.LOG_MAX_BYTES", 0)
    mdt.restart()
    mdt.poll(*outage[-1])
    assert free_pages(mdt.state) < 5


def test_a_disk_without_room_for_that_holds_up_nothing(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: StateFile) -> None:
        raise StateUnwritable("cannot shrink state file: database or disk is full")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(StateFile, "shrink", full)
    go_without_redis(mdt, wire)
    mdt.poll(*OUTAGE[-1])
    assert mdt.told() == TOLD
    assert "cannot shrink state file" in caplog.text


# What is believed without Redis.


def test_a_list_that_lost_most_of_itself_is_not_believed_at_once(mdt: OneMdt, wire: Wire) -> None:
    go_without_redis(mdt, wire, [LISTING[:1], LISTING, LISTING[:1], LISTING])
    assert mdt.poll(*LISTING).backlog == 0
    assert mdt.told() == []
    go_without_redis(mdt, wire, [LISTING[:1], LISTING[:1]])
    mdt.poll(*LISTING[:1])
    assert mdt.told() == [f"PURGED 1/{rec} WAITING" for rec in range(2, 7)]


def test_a_reading_that_breaks_off_has_what_it_saw_wait(mdt: OneMdt, wire: Wire, opener: Opener) -> None:
    wire.down = True
    opener.fail_after(len(LISTING[0]) + 1, 5)
    fail(mdt, line(1, "STARTED"), *LISTING[1:])
    fail(mdt, *LISTING)
    wire.down = False
    mdt.poll(*LISTING)
    assert mdt.told() == ["UPDATE 1/1 STARTED", "UPDATE 1/1 WAITING"]


def test_a_worker_that_starts_without_redis_knows_how_its_lists_are_sorted(mdt: OneMdt, wire: Wire) -> None:
    """Of one that is not, what it lacks is believed at the second reading."""
    mixed = [LISTING[at] for at in (3, 0, 5, 1, 4, 2)]
    mdt.poll()
    mdt.poll()
    mdt.poll(*mixed)
    mdt.told()
    mdt.restart()
    wire.down = True
    assert fail(mdt, *mixed[:4]).backlog == 0
    assert fail(mdt, *mixed).backlog == 0


def test_an_adopted_line_needs_no_redis(mdt: OneMdt, wire: Wire) -> None:
    entry = {"event_type": "NEW", "cat_idx": 1, "rec_idx": 7, "fid": "0x200000401:0x7:0x0", "action": "ARCHIVE"}
    add(mdt.client, entry | {"status": "WAITING", "timestamp": 1, "action_key": "0x200000401:0x7:0x0:ARCHIVE"})
    mdt.shows(*LISTING, line(7))
    wire.before_append = None
    mdt.replica.catch_up()
    mdt.restart()
    mdt.replica.open()
    mdt.replica.catch_up()
    wire.down = True
    mdt.replica._in_step = False
    assert fail(mdt, *LISTING, line(7)).backlog == 0
    assert fail(mdt, *LISTING, line(7, "STARTED")).backlog == 1
    wire.down = False
    mdt.told()
    mdt.poll(*LISTING, line(7, "STARTED"))
    assert mdt.told() == ["UPDATE 1/7 STARTED"]
