"""Polls without Redis where nothing may wait for it: what is missed, and what is said of it. See `test_outbox`."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import redis

from hsm_shipper.errors import StateUnwritable, StreamUnavailable
from hsm_shipper.maintenance.reconcile import StateFileHealer
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.outbox import OutboxBound
from tests.conftest import PrivateServer
from tests.support.core import KEY, OneMdt, Opener, Wire, line, lines, live_action, shipper_client
from tests.support.truth import entries_of, judge_stream

LISTING = lines(range(1, 7))


@pytest.fixture
def mdt(mdt: OneMdt) -> OneMdt:
    """An MDT whose six actions are in the stream, without an outbox."""
    mdt.replica.outbox.bound = OutboxBound(events=0)
    mdt.poll(*LISTING)
    mdt.told()
    return mdt


def test_states_that_came_and_went_without_redis_are_counted(mdt: OneMdt, wire: Wire) -> None:
    wire.down = True
    missed = []
    for listing in (
        [line(1, "STARTED"), *LISTING[1:], line(8)],  # two new states
        [line(1, "SUCCEED"), *LISTING[1:]],  # both are gone, one more is there
        [line(1, "SUCCEED"), *LISTING[1:], line(9)],
    ):
        mdt.shows(*listing)
        result = mdt.poller.poll()
        assert isinstance(result.error, StreamUnavailable)
        missed.append(result.states_missed)
    wire.down = False
    result = mdt.poll(line(1, "SUCCEED"), *LISTING[1:])
    assert [*missed, result.states_missed] == [0, 2, 0, 1]
    assert mdt.told() == ["UPDATE 1/1 SUCCEED"]
    status = mdt.replica.saved_status()
    assert status is not None
    assert status.states_missed == 3


def test_what_was_missed_before_the_worker_ended_is_counted(mdt: OneMdt, wire: Wire) -> None:
    wire.down = True
    for listing in ([line(1, "STARTED"), *LISTING[1:]], LISTING):
        mdt.shows(*listing)
        mdt.poller.poll()
    mdt.restart()
    wire.down = False
    mdt.poll(*LISTING)
    status = mdt.replica.saved_status()
    assert status is not None
    assert status.states_missed == 1


def test_a_line_that_is_only_to_be_told_again_is_not_missed(mdt: OneMdt, wire: Wire) -> None:
    with closing(StateFileHealer(mdt.state)) as healer, healer.transaction():
        healer.mark_for_refresh([live_action(LISTING[0])])
    wire.down = True
    mdt.shows(*LISTING)
    assert mdt.poller.poll().not_kept == 0
    mdt.shows(*LISTING[1:])
    missed = mdt.poller.poll().states_missed
    wire.down = False
    assert (missed, mdt.poll(*LISTING[1:]).states_missed) == (0, 0)
    assert mdt.told() == ["PURGED 1/1 WAITING"]


def test_every_outage_counts_its_own(mdt: OneMdt, wire: Wire) -> None:
    missed = []
    for status in ("STARTED", "FAILED"):
        wire.down = True
        mdt.shows(line(1, status), *LISTING[1:])
        mdt.poller.poll()
        wire.down = False
        missed += [mdt.poll(*LISTING).states_missed, mdt.poll(*LISTING).states_missed]
    assert missed == [1, 0, 1, 0]
    status_row = mdt.replica.saved_status()
    assert status_row is not None
    assert status_row.states_missed == 2


def test_a_state_that_came_and_went_with_a_lost_reply_is_not_missed(mdt: OneMdt, wire: Wire) -> None:
    wire.lose_reply = True
    mdt.shows(line(1, "STARTED"), *LISTING[1:])
    assert mdt.poller.poll().error is not None
    assert mdt.poll(line(1, "SUCCEED"), *LISTING[1:]).states_missed == 0
    assert mdt.told() == ["UPDATE 1/1 STARTED", "UPDATE 1/1 SUCCEED"]


def test_a_state_that_the_first_reading_with_redis_could_not_read_is_not_missed(
    mdt: OneMdt, wire: Wire, opener: Opener
) -> None:
    wire.down = True
    mdt.shows(*LISTING, line(7))
    mdt.poller.poll()
    wire.down = False
    opener.fail_after(0, errno.EIO)
    missed = mdt.poller.poll().states_missed
    missed += mdt.poll(*LISTING, line(7)).states_missed
    assert (mdt.told(), missed) == (["NEW 1/7 WAITING"], 0)


def test_a_state_that_could_not_be_read_again_during_the_outage_is_not_missed(
    mdt: OneMdt, wire: Wire, opener: Opener
) -> None:
    wire.down = True
    mdt.shows(*LISTING, line(7))
    mdt.poller.poll()
    opener.fail_after(0, errno.EIO)
    mdt.poller.poll()
    wire.down = False
    assert mdt.poll(*LISTING, line(7)).states_missed == 0
    assert mdt.told() == ["NEW 1/7 WAITING"]


def without_redis(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream takes nothing."""
    monkeypatch.setattr(wire, "down", True)


def without_room(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state file cannot be told what a reading missed."""

    def full(*_: object) -> None:
        raise StateUnwritable("cannot write state file: database or disk is full")

    monkeypatch.setattr(StateFile, "set_missed", full)


@pytest.mark.parametrize("trouble", [without_redis, without_room])
def test_what_a_reading_saw_that_nobody_could_be_told_of_is_not_purged_by_a_short_one(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Wire, pytest.MonkeyPatch], None]
) -> None:
    mdt.poll(*LISTING[:2])  # most of it is missing, which is not believed at once
    with monkeypatch.context() as patched:
        trouble(wire, patched)
        mdt.shows(*LISTING)
        assert mdt.poller.poll().error is not None
    mdt.poll(*LISTING[:2])
    assert mdt.told() == []
    mdt.poll(*LISTING[:2])
    assert len(mdt.told()) == 4


def test_the_backlog_is_what_redis_has_not_been_told(mdt: OneMdt, wire: Wire) -> None:
    wire.down = True
    mdt.shows(line(1, "STARTED"), *LISTING[1:5], line(8))
    assert mdt.poller.poll().backlog == 3
    wire.down = False
    assert mdt.poll(line(1, "STARTED"), *LISTING[1:5], line(8)).backlog == 0


def test_an_outage_is_said_when_it_begins_and_when_it_is_over(
    mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.down = True
    for _ in range(4):
        mdt.poller.poll()
    wire.down = False
    mdt.poll(*LISTING)
    begun, over = caplog.messages
    assert begun.startswith("cannot look at stream")
    assert over.startswith("stream and file are in step again after 4 polls")


def test_redis_is_said_to_have_recovered(mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wire.down = True
    mdt.poller.poll()
    wire.down = False
    mdt.poll(*LISTING)
    mdt.poll(*LISTING)
    assert [message.split(" (")[0] for message in caplog.messages if "recovered" in message] == [
        "Redis: recovered after 1 failures"
    ]


def test_a_server_that_is_down_at_the_start_gets_everything_when_it_comes(
    tmp_path: Path, private_server: PrivateServer
) -> None:
    server = private_server()
    server.stop()
    mdt = OneMdt(tmp_path / "mds1", shipper_client(server, 0))
    mdt.shows(*LISTING)
    for _ in range(2):
        assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    server.start()
    mdt.poll(*LISTING)
    mdt.check(*LISTING)


def test_a_server_that_dies_without_its_data_is_told_everything_again(
    tmp_path: Path, private_server: PrivateServer
) -> None:
    server = private_server()
    mdt = OneMdt(tmp_path / "mds1", shipper_client(server, 0))
    mdt.poll(*LISTING)
    server.kill()
    mdt.shows(*LISTING, line(7))
    assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    server.start()
    mdt.poll(*LISTING, line(7))
    assert len(entries_of(mdt.client, KEY)) == 7
    mdt.check(*LISTING, line(7))


def leave_half_way(wire: Wire) -> None:
    """Redis goes when the third append of a poll is sent: one is confirmed, one is on its way."""

    def first() -> None:
        wire.before_append = second

    def second() -> None:
        wire.before_append = lambda: setattr(wire, "down", True)

    wire.before_append = first


def test_a_first_ship_that_redis_leaves_half_way_is_finished_later(
    tmp_path: Path, client: redis.Redis, wire: Wire
) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    listing = lines(range(1, 4001))
    mdt.shows(*listing)
    leave_half_way(wire)
    assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    wire.down = False
    assert 0 < len(entries_of(client, KEY)) < 4000
    mdt.poll(*listing)
    assert judge_stream(client, KEY).events == {"NEW": 4000}
    mdt.check(*listing)


def test_the_backlog_of_a_first_ship_that_redis_leaves_half_way_is_the_rest(
    tmp_path: Path, client: redis.Redis, wire: Wire
) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    mdt.shows(*lines(range(1, 4001)))
    leave_half_way(wire)
    result = mdt.poller.poll()
    wire.down = False
    assert result.backlog == 4000 - len(entries_of(client, KEY))


def test_lines_of_a_first_ship_that_redis_leaves_half_way_are_all_understood(
    tmp_path: Path, client: redis.Redis, wire: Wire
) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    mdt.shows(*lines(range(1, 4001)))
    leave_half_way(wire)
    assert mdt.poller.poll().lines_not_understood == 0
