"""The fold: which actions are live, by what a stream says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import NEW, PURGED, UPDATE, decode
from hsm_shipper.contract.fold import ActionFold, DigestOf
from hsm_shipper.errors import ReplayOvertaken
from tests.support.core import digest, earlier_event, line, live_action, place

KEY = "0x200000401:0x1:0x0:ARCHIVE"


def state(data: bytes, kind: str = NEW, **changes: Any) -> dict[str, Any]:
    """A NEW or UPDATE of ours."""
    times = {"timestamp": 1000, "cookie": None, "first_seen": 1000, "status_since": 1000}
    return earlier_event(data, kind) | times | changes


def purged(data: bytes, **changes: Any) -> dict[str, Any]:
    """A PURGED that names place, FID and action, and more only in `changes`."""
    event = earlier_event(data, PURGED) | {"status": PURGED} | changes
    return {key: value for key, value in event.items() if key != "raw"}


def by_key(action_key: str = KEY) -> dict[str, Any]:
    """A PURGED of an earlier shipper."""
    return {"event_type": PURGED, "action_key": action_key, "status": PURGED, "timestamp": 1}


def fold_of(events: Sequence[dict[str, Any]], digest_of: DigestOf | None = None) -> ActionFold:
    """What the events come to; the nth entry has the id `n-0`."""
    live = ActionFold(digest_of=digest_of)
    for number, event in enumerate(events):
        live.apply(b"%d-0" % number, decode(msgspec.json.encode(event)))
    return live


def folded(*events: dict[str, Any]) -> ActionFold:
    """What the events come to, with digests; in every test here a fold that asks for them at need says the same."""
    live = fold_of(events)
    asking = fold_of(events, lambda entry_id: decode(msgspec.json.encode(events[int(entry_id[:-2])])).line_digest)
    assert [all_but_the_digest(action) for action in asking] == [all_but_the_digest(action) for action in live]
    assert all(ours.digest in (None, theirs.digest) for ours, theirs in zip(asking, live, strict=True))
    return live


def all_but_the_digest(action: ActionState) -> ActionState:
    """The action as a fold without digests knows it."""
    return structs.replace(action, mark=bytes(16) + (action.cookie or "").encode())


def statuses(live: Iterable[ActionState]) -> dict[str, str]:
    """The statuses by place."""
    return {f"{action.cat_idx}/{action.rec_idx}": action.status for action in live}


def test_new_puts_the_action_in_its_place() -> None:
    live = folded(state(line(3, cat=2)))
    assert list(live) == [
        ActionState.make(
            place(3, cat=2), "0x200000401:0x3:0x0", "ARCHIVE", "WAITING", "0x6b020003", digest(line(3, cat=2)),
            1000, 1000,
        )
    ]  # fmt: skip
    (action,) = live
    assert (action.cat_idx, action.rec_idx, action.action_key) == (2, 3, "0x200000401:0x3:0x0:ARCHIVE")


def test_update_puts_the_action_in_its_place_even_if_nothing_was_there() -> None:
    assert statuses(folded(state(line(1, "STARTED"), UPDATE))) == {"1/1": "STARTED"}


def test_an_occupant_is_replaced_whoever_it_was() -> None:
    live = folded(state(line(1)), state(line(1, "SUCCEED", fid="0x9:0x9:0x0", cookie=9)))
    assert [(action.fid, action.status, action.entry_id) for action in live] == [("0x9:0x9:0x0", "SUCCEED", "1-0")]


def test_the_same_fid_and_action_in_two_places_are_two_live_actions() -> None:
    live = folded(state(line(1, "SUCCEED")), state(line(2, fid="0x200000401:0x1:0x0")))
    assert statuses(live) == {"1/1": "SUCCEED", "1/2": "WAITING"}


def test_the_same_rec_of_another_cat_is_another_place() -> None:
    assert statuses(folded(state(line(1)), state(line(1, "STARTED", cat=2)))) == {"1/1": "WAITING", "2/1": "STARTED"}


# PURGED with a place


def test_purged_removes_the_action_with_its_cookie_whatever_its_hash() -> None:
    assert not len(folded(state(line(1)), purged(line(1), cookie="0x6b020001", hash="ab" * 16)))


def test_purged_of_another_cookie_is_too_late_for_the_successor_in_the_same_place() -> None:
    successor = line(1, cookie=9)
    live = folded(state(successor), purged(line(1), cookie="0x6b020001", hash=digest(successor).hex()))
    assert statuses(live) == {"1/1": "WAITING"}


def test_purged_without_a_cookie_goes_by_the_hash() -> None:
    assert not len(folded(state(line(1)), purged(line(1), hash=digest(line(1)).hex())))


def test_purged_of_another_hash_is_too_late_for_the_same_fid_and_action() -> None:
    late = purged(line(1), hash=digest(line(1, cookie=9)).hex())
    assert statuses(folded(state(line(1)), late)) == {"1/1": "WAITING"}


def test_purged_goes_by_the_hash_where_only_the_occupant_has_no_cookie() -> None:
    unnamed = state(line(1), raw=None, hash=digest(line(1)).hex())
    assert not len(folded(unnamed, purged(line(1), cookie="0x5", hash=digest(line(1)).hex())))
    assert len(folded(unnamed, purged(line(1), cookie="0x5", hash="ab" * 16)))


def test_purged_with_neither_goes_by_fid_and_action() -> None:
    assert not len(folded(state(line(1)), purged(line(1))))


@pytest.mark.parametrize("other", [{"fid": "0x9:0x9:0x0"}, {"action": "RESTORE"}], ids=["FID", "action"])
def test_purged_of_another_fid_or_action_is_too_late_for_the_successor(other: dict[str, str]) -> None:
    late = purged(line(1)) | other
    assert statuses(folded(state(line(1)), late)) == {"1/1": "WAITING"}


def test_purged_of_a_place_leaves_the_same_action_in_another_place_alone() -> None:
    twin = line(2, fid="0x200000401:0x1:0x0", cookie=0x6B020001)
    live = folded(state(line(1)), state(twin), purged(line(1), cookie="0x6b020001"))
    assert statuses(live) == {"1/2": "WAITING"}


def test_purged_of_an_empty_place_is_nothing() -> None:
    assert statuses(folded(state(line(1)), purged(line(2), cookie="0x6b020002"))) == {"1/1": "WAITING"}


def test_a_cancel_and_its_target_are_two_actions_though_they_share_a_cookie() -> None:
    target, cancel = line(1, "SUCCEED"), line(2, fid="0x200000401:0x1:0x0", action="CANCEL", cookie=0x6B020001)
    live = folded(state(target), state(cancel), purged(target, cookie="0x6b020001"))
    assert [(action.rec_idx, action.action) for action in live] == [(2, "CANCEL")]


# PURGED without a place


def test_purged_by_key_removes_every_live_action_of_that_key() -> None:
    twins = [state(line(rec, fid="0x200000401:0x1:0x0")) for rec in (1, 2, 5)]
    live = folded(*twins, state(line(3)), state(line(4, fid="0x200000401:0x1:0x0", action="CANCEL")), by_key())
    assert statuses(live) == {"1/3": "WAITING", "1/4": "WAITING"}


def test_purged_by_a_key_that_nothing_has_is_nothing() -> None:
    assert statuses(folded(state(line(1)), by_key("0x9:0x9:0x0:ARCHIVE"))) == {"1/1": "WAITING"}


def test_purged_by_key_sees_what_came_after_an_earlier_one() -> None:
    assert not len(folded(by_key(), state(line(1)), by_key()))


def test_purged_by_key_does_not_hit_the_successor_of_another_key_in_the_same_place() -> None:
    live = folded(by_key(), state(line(1)), state(line(1, fid="0x9:0x9:0x0", cookie=9)), by_key())
    assert statuses(live) == {"1/1": "WAITING"}


def test_purged_by_key_and_by_place_take_turns() -> None:
    twin = line(2, fid="0x200000401:0x1:0x0")
    live = folded(by_key(), state(line(1)), state(twin), purged(twin, cookie="0x6b020002"), by_key(), state(line(1)))
    assert statuses(live) == {"1/1": "WAITING"}
    assert not len(folded(by_key(), state(line(1)), purged(line(1)), by_key()))


def test_an_action_that_is_known_from_elsewhere_is_found_by_key_too() -> None:
    live = folded(by_key())
    live.put(live_action(line(1)))
    live.put(live_action(line(1, "STARTED")))
    live.apply(b"9-0", decode(msgspec.json.encode(by_key())))
    assert not len(live)


# Since when


def times(live: ActionFold) -> list[tuple[int | None, int | None]]:
    """(first_seen, status_since) of what is live."""
    return [(action.first_seen, action.status_since) for action in live]


def test_times_that_an_entry_tells_are_taken_as_they_are() -> None:
    assert times(folded(state(line(1), timestamp=1000, first_seen=10, status_since=20))) == [(10, 20)]


def test_times_with_a_fraction_are_taken_in_whole_seconds() -> None:
    assert times(folded(state(line(1), first_seen=10.9, status_since=20.9))) == [(10, 20)]


def test_an_earlier_shippers_new_begins_at_its_timestamp() -> None:
    assert times(folded(earlier_event(line(1), timestamp=50))) == [(50, 50)]


def test_an_earlier_shippers_update_keeps_first_seen_and_restarts_the_status() -> None:
    started = earlier_event(line(1, "STARTED"), UPDATE, 60)
    assert times(folded(earlier_event(line(1), timestamp=50), started)) == [(50, 60)]


def test_an_earlier_shippers_update_in_the_same_status_keeps_both() -> None:
    started = earlier_event(line(1, "STARTED"), UPDATE, 60)
    again = earlier_event(line(1, "STARTED").replace(b"flags=0x0", b"flags=0x4"), UPDATE, 70)
    assert times(folded(earlier_event(line(1), timestamp=50), started, again)) == [(50, 60)]


@pytest.mark.parametrize(
    "successor",
    [line(1, cookie=9), line(1, fid="0x9:0x9:0x0"), line(1, action="CANCEL")],
    ids=["cookie", "FID", "action"],
)
def test_an_earlier_shippers_update_inherits_nothing_from_another_action(successor: bytes) -> None:
    assert times(folded(earlier_event(line(1), timestamp=50), earlier_event(successor, UPDATE, 60))) == [(60, 60)]


def test_an_action_that_was_purged_leaves_nothing_to_inherit() -> None:
    new = earlier_event(line(1), timestamp=50)
    assert times(folded(new, purged(line(1)), earlier_event(line(1), timestamp=60))) == [(60, 60)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"status_since": 55}, (50, 55)),
        ({"first_seen": 45}, (45, 50)),
        ({"first_seen": 45, "status_since": 55}, (45, 55)),
    ],
    ids=["status_since", "first_seen", "both"],
)
def test_a_time_that_is_told_is_not_inherited(told: dict[str, int], expected: tuple[int, int]) -> None:
    update = earlier_event(line(1), UPDATE, 60, **told)
    assert times(folded(earlier_event(line(1), timestamp=50), update)) == [expected]


def test_an_unknown_cookie_is_no_other_action() -> None:
    unnamed = earlier_event(line(1, "STARTED"), UPDATE, 60)
    del unnamed["raw"]
    assert times(folded(earlier_event(line(1), timestamp=50), unnamed)) == [(50, 60)]


def test_entries_without_any_time_leave_it_unknown() -> None:
    timeless = earlier_event(line(1))
    del timeless["timestamp"]
    assert times(folded(timeless)) == [(None, None)]


# Without digests


def ours(event: dict[str, Any]) -> dict[str, Any]:
    """The event, as our shipper writes it."""
    return event | {"host": "mds1"}


@pytest.mark.parametrize(
    ("end", "is_live"),
    [
        (purged(line(1), hash=digest(line(1)).hex()), False),
        (purged(line(1), hash="ab" * 16), True),
        (purged(line(1)) | {"fid": "0x9:0x9:0x0", "hash": digest(line(1)).hex()}, False),
    ],
    ids=["its own hash", "another hash", "its own hash, another FID"],
)
def test_where_only_a_digest_decides_it_is_asked_for(end: dict[str, Any], is_live: bool) -> None:
    asked = []

    def digest_of(entry_id: bytes) -> bytes:
        asked.append(entry_id)
        return digest(line(1))

    live = fold_of([ours(state(line(1))), end], digest_of)
    assert (asked, len(live)) == ([b"0-0"], is_live)
    assert not live.has_digests


@pytest.mark.parametrize(
    "end",
    [
        purged(line(1), cookie="0x6b020001", hash=digest(line(1)).hex()),
        purged(line(1)),
        purged(line(2), hash="ab" * 16),
        by_key(),
    ],
    ids=["by its cookie", "without a hash", "of an empty place", "by its key"],
)
def test_where_something_else_decides_no_digest_is_asked_for(end: dict[str, Any]) -> None:
    def refuse(entry_id: bytes) -> bytes:
        raise AssertionError(entry_id)

    fold_of([ours(state(line(1))), end], refuse)


def test_of_an_earlier_shippers_entries_the_digests_are_kept() -> None:
    def refuse(entry_id: bytes) -> bytes:
        raise AssertionError(entry_id)

    live = fold_of(
        [earlier_event(line(1)), earlier_event(line(2)), purged(line(1), hash=digest(line(1)).hex())], refuse
    )
    assert [action.digest for action in live] == [digest(line(2))]
    assert [action.digest for action in fold_of([ours(state(line(1)))], refuse)] == [None]


def test_an_entry_that_is_gone_when_it_is_asked_for_ends_the_fold() -> None:
    def gone(_: bytes) -> bytes:
        raise ReplayOvertaken("gone")

    with pytest.raises(ReplayOvertaken):
        fold_of([ours(state(line(1))), purged(line(1), hash="ab" * 16)], gone)


def random_events() -> st.SearchStrategy[dict[str, Any]]:
    """Events of ours and of earlier shippers, in few places, so that they meet."""
    data = st.builds(
        line, st.integers(1, 2), st.sampled_from(["WAITING", "SUCCEED"]), cookie=st.one_of(st.none(), st.integers(7, 8))
    )
    cookies = st.sampled_from([None, "0x6b020001", "0x7"])
    ends = st.builds(
        lambda one, other, cookie: purged(one, cookie=cookie, hash=digest(other).hex()), data, data, cookies
    )
    states = st.builds(state, data)
    return st.one_of(
        states, states.map(ours), data.map(earlier_event), ends, data.map(purged), st.builds(by_key, st.just(KEY))
    )


@given(st.lists(random_events(), max_size=12))
def test_with_and_without_digests_one_history_is_one_fold(events: list[dict[str, Any]]) -> None:
    folded(*events)
