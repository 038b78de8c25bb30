"""What waits for Redis while others change stream, state file or MDT: it goes on, or ends and that is said."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.errors import StateCorrupt, StateUnwritable
from hsm_shipper.maintenance.reconcile import Healed, StateFileHealer
from hsm_shipper.state.damage import check_for_damage, set_aside
from hsm_shipper.state.forget import forget
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.outbox import OutboxBound
from tests.conftest import PrivateServer
from tests.support.core import (
    HOST,
    KEY,
    MDT,
    OneMdt,
    Wire,
    add,
    line,
    live_action,
    place,
    shipper_client,
)
from tests.support.damage import DAMAGES_WAITING, Damage
from tests.support.outage import LISTING, OUTAGE, TOLD, bounded, drained, fail, filled, go_without_redis
from tests.support.truth import entries_of, judge_stream


@pytest.fixture
def mdt(mdt: OneMdt) -> OneMdt:
    """An MDT whose six actions are in the stream."""
    return filled(mdt)


# What the stream may hold by the time that Redis is back.


def test_a_reply_that_was_lost_before_the_outage(mdt: OneMdt, wire: Wire) -> None:
    wire.lose_reply = True
    fail(mdt, *OUTAGE[0])
    go_without_redis(mdt, wire, OUTAGE[1:])
    result = mdt.poll(*OUTAGE[-1])
    assert (mdt.told(), result.states_missed) == (TOLD, 0)
    mdt.check(*OUTAGE[-1])


def test_a_reply_that_is_lost_while_it_is_appended(mdt: OneMdt, wire: Wire) -> None:
    bounded(mdt, OutboxBound(send_s=0))
    go_without_redis(mdt, wire)
    mdt.replica.batch.events = 2
    wire.lose_reply = True
    fail(mdt, *OUTAGE[-1])
    mdt.poll(*OUTAGE[-1])
    assert [*mdt.told(), *chain(*drained(mdt))] == TOLD
    mdt.check(*OUTAGE[-1])


def test_entries_of_another_host_end_what_waits(mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    go_without_redis(mdt, wire)
    other = OneMdt(mdt.actions.parent.parent / "mds2", mdt.client, host="mds2", actions=mdt.actions)
    other.poll(line(1, "FAILED"), *LISTING[1:])
    result = mdt.poll(*OUTAGE[-1])
    assert mdt.told() == ["UPDATE 1/1 FAILED", "PURGED 1/1 FAILED", "NEW 1/8 WAITING", "NEW 1/9 WAITING"]
    assert result.states_missed == 3  # 1/1 STARTED, 1/1 SUCCEED, and the first in 1/8
    assert caplog.text.count("7 events that waited in the outbox of") == 1
    assert "another host wrote, or data was lost" in caplog.text
    mdt.check(*OUTAGE[-1])
    assert mdt.poll(*OUTAGE[-1]).states_missed == 0


def test_what_is_dropped_is_counted_once_however_often_that_cannot_be_committed(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_without_redis(mdt, wire)
    add(mdt.client, b"no event")

    def full(*_: object) -> None:
        raise StateUnwritable("cannot write state file: database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(StateFile, "set_position", full)
        mdt.shows(*OUTAGE[-1])
        for _ in range(3):
            assert isinstance(mdt.poller.poll().error, StateUnwritable)
    assert "are dropped" not in caplog.text
    assert mdt.poll(*OUTAGE[-1]).states_missed == 3
    assert caplog.text.count("are dropped") == 1


def test_what_is_in_the_stream_before_the_entries_of_another_host_is_not_missed(mdt: OneMdt, wire: Wire) -> None:
    wire.lose_reply = True
    fail(mdt, *OUTAGE[0])
    go_without_redis(mdt, wire, OUTAGE[1:2])
    add(mdt.client, b"no event")
    assert mdt.poll(*LISTING).states_missed == 1  # 1/1 SUCCEED
    mdt.check(*LISTING)


def test_a_server_that_lost_its_data_ends_what_waits(tmp_path: Path, private_server: PrivateServer) -> None:
    server = private_server()
    mdt = filled(OneMdt(tmp_path / "mds1", shipper_client(server, 0)))
    server.kill()
    for listing in OUTAGE:
        fail(mdt, *listing)
    server.start()
    result = mdt.poll(*OUTAGE[-1])
    assert result.states_missed == 3
    mdt.check(*OUTAGE[-1])
    assert judge_stream(mdt.client, KEY).events == {"NEW": len(OUTAGE[-1])}


def test_an_entry_that_was_deleted_meanwhile_ends_what_waits(mdt: OneMdt, wire: Wire) -> None:
    go_without_redis(mdt, wire)
    mdt.client.xdel(KEY, entries_of(mdt.client, KEY)[2][0])
    assert mdt.poll(*OUTAGE[-1]).states_missed == 3
    assert {action.place for action in judge_stream(mdt.client, KEY).live} == {
        place(rec) for rec in (2, 3, 4, 5, 6, 8, 9)
    }


def test_an_entry_that_was_deleted_behind_a_lost_reply_ends_what_waits(
    mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    wire.lose_reply = True
    fail(mdt, *OUTAGE[0])
    go_without_redis(mdt, wire, OUTAGE[1:2])
    mdt.client.xdel(KEY, entries_of(mdt.client, KEY)[2][0])
    assert mdt.poll(*LISTING).states_missed == 1  # 1/1 SUCCEED
    assert "2 events that waited in the outbox of" in caplog.text


def test_a_stream_that_maintenance_trimmed_to_nothing_goes_on(mdt: OneMdt, wire: Wire) -> None:
    mdt.poll()
    mdt.poll()
    mdt.told()
    wire.lose_reply = True
    fail(mdt, line(8))
    mdt.client.xtrim(KEY, minid=entries_of(mdt.client, KEY)[-1][0], approximate=False)
    go_without_redis(mdt, wire, [[line(8, "STARTED")]])
    assert mdt.poll(line(8, "FAILED")).states_missed == 0
    assert mdt.told() == ["NEW 1/8 WAITING", "UPDATE 1/8 STARTED", "UPDATE 1/8 FAILED"]


# What maintenance does meanwhile.


@pytest.fixture
def healer(mdt: OneMdt) -> Iterator[StateFileHealer]:
    """Maintenance."""
    with closing(StateFileHealer(mdt.state)) as state:
        yield state


def test_what_is_to_be_refreshed_is_once(mdt: OneMdt, wire: Wire, healer: StateFileHealer) -> None:
    wire.down = True
    fail(mdt, *OUTAGE[0])
    with healer.transaction():
        healer.mark_for_refresh([live_action(LISTING[1]), live_action(LISTING[0])])
    for listing in (OUTAGE[0], OUTAGE[1], OUTAGE[1]):
        fail(mdt, *listing)
    wire.down = False
    mdt.poll(*OUTAGE[1])
    events = mdt.events()
    assert [(event["rec_idx"], event["status"]) for event in events if event.get("refresh")] == [
        (1, "STARTED"),
        (2, "WAITING"),
    ]
    assert len(events) == 6
    mdt.check(*OUTAGE[1])


def test_live_actions_that_were_corrected_end_what_waits_of_them(
    mdt: OneMdt, wire: Wire, healer: StateFileHealer, caplog: pytest.LogCaptureFixture
) -> None:
    wire.down = True
    fail(mdt, *OUTAGE[0])
    orphan = live_action(line(8, "FAILED", cookie=0x6B030000))
    _correct(healer, orphans=[orphan])
    fail(mdt, *OUTAGE[0])
    assert "2 events that waited in the outbox of" in caplog.text
    assert mdt.replica.waiting.events == 3  # 1/8 ends, and both again


def test_other_live_actions_that_were_corrected_end_nothing(mdt: OneMdt, wire: Wire, healer: StateFileHealer) -> None:
    wire.down = True
    fail(mdt, *OUTAGE[0])
    _correct(healer, orphans=[live_action(line(9))])
    assert fail(mdt, *OUTAGE[0]).backlog == 3  # 1/9 ends


def _correct(healer: StateFileHealer, orphans: list[ActionState]) -> None:
    with healer.transaction():
        healer.correct(Healed(orphans, [], [], []), healer.position())


# What becomes of the state file, and of the MDT.


@pytest.mark.parametrize("damage", DAMAGES_WAITING, ids=lambda it: f"{it.column}={it.value}")
@pytest.mark.parametrize("found_by", ["a start", "a poll", "maintenance"])
def test_an_outbox_that_is_damaged_is_set_aside_with_its_file(
    mdt: OneMdt, wire: Wire, damage: Damage, found_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    go_without_redis(mdt, wire, [[*OUTAGE[0], line(9)]])
    if found_by == "a start":
        mdt.replica.close()
    damage.do(mdt.state)
    if found_by == "maintenance":
        with pytest.raises(StateCorrupt) as found:
            check_for_damage(mdt.state)
        logging.getLogger("maintenance").error("%s", set_aside(mdt.state, found.value))
    mdt.poll(*LISTING)
    assert caplog.text.count("3 events that waited in it for Redis are lost") == 1
    assert mdt.told() == []
    assert mdt.state.with_name(f"{mdt.state.name}.broken").exists()
    mdt.check(*LISTING)


def test_an_outbox_of_another_day_is_no_more_appended_than_it_is_true(mdt: OneMdt, wire: Wire) -> None:
    """Yesterday's copy, of an outage, is put in the place of the file."""
    wire.down = True
    fail(mdt, *OUTAGE[0])
    with closing(sqlite3.connect(mdt.state)) as state, closing(sqlite3.connect(f"{mdt.state}.copy")) as copy:
        state.backup(copy)
    wire.down = False
    mdt.poll(*OUTAGE[1])
    mdt.poll(*LISTING)
    mdt.forget_told()
    told = mdt.told()
    Path(f"{mdt.state}.copy").replace(mdt.state)
    mdt.poll(*LISTING)
    mdt.forget_told()
    assert mdt.told() == told
    mdt.check(*LISTING)


def test_a_state_file_that_is_removed_takes_what_waits_with_it(
    mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    go_without_redis(mdt, wire)
    mdt.state.unlink()
    mdt.poll(*OUTAGE[-1])
    assert "7 events that waited in state file" in caplog.text
    mdt.check(*OUTAGE[-1])


def test_an_mdt_that_leaves_takes_what_waits_with_it_and_says_so(
    mdt: OneMdt, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    go_without_redis(mdt, wire)
    mdt.replica.close()
    assert forget(mdt.state.parent, MDT)
    assert f"7 events of {MDT} that waited for Redis" in caplog.text


def test_an_mdt_that_leaves_without_redis_and_comes_back_goes_on(mdt: OneMdt, wire: Wire) -> None:
    """Its other host has never seen the stream, so nothing waits there."""
    other = OneMdt(mdt.actions.parent.parent / "mds2", mdt.client, host="mds2", actions=mdt.actions)
    wire.down = True
    fail(mdt, *OUTAGE[0])
    fail(other, line(1, "FAILED"), *OUTAGE[0][1:])
    fail(mdt, *OUTAGE[1])
    wire.down = False
    mdt.poll(*OUTAGE[1])
    assert mdt.told() == TOLD[:4]
    assert {event["host"] for event in _all_events(mdt)} == {HOST}
    other.poll(*OUTAGE[1])
    mdt.check(*OUTAGE[1])


def test_of_two_hosts_with_something_that_waits_the_first_goes_on(mdt: OneMdt, wire: Wire) -> None:
    other = OneMdt(mdt.actions.parent.parent / "mds2", mdt.client, host="mds2", actions=mdt.actions)
    other.poll(*LISTING)
    wire.down = True
    fail(mdt, *OUTAGE[0])
    fail(other, *OUTAGE[1])
    wire.down = False
    other.poll(*OUTAGE[1])
    assert mdt.poll(*OUTAGE[1]).states_missed == 2
    assert mdt.told() == ["UPDATE 1/1 SUCCEED"]
    mdt.check(*OUTAGE[1])


def _all_events(mdt: OneMdt) -> list[dict[str, object]]:
    mdt.forget_told()
    return mdt.events()
