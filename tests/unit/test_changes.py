"""From a difference to the event that says it and the row that remembers it."""

from __future__ import annotations

from typing import Any

import pytest

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import NEW, PURGED, UPDATE, decode
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.kernel_line import parse_line
from hsm_shipper.worker.changes import ADOPTED, Change, ChangeWriter, same_action
from hsm_shipper.worker.held_lines import NewLine
from tests.support.core import HOST, MDT, digest, line, live_action

WRITER = ChangeWriter(MDT, HOST)
NOW = 1000


def seen(data: bytes, before: ActionState | None = None) -> Change:
    """The change that `data` makes where `before` is known."""
    record = parse_line(data)
    assert record is not None
    return WRITER.state(NewLine(data, digest(data), record), before, NOW)


def known(data: bytes, **changes: Any) -> ActionState:
    """What is known of the action of `data`, first seen at 100 and in its status since 200."""
    return live_action(data, **changes)


def test_an_action_in_an_empty_place_is_new_from_now_on() -> None:
    change = seen(line())
    assert (change.kind, change.before) == (NEW, None)
    assert change.after == known(line(), first_seen=NOW, status_since=NOW)


def test_another_status_is_an_update_that_keeps_when_it_was_first_seen() -> None:
    before = known(line())
    change = seen(line(status="STARTED"), before)
    assert (change.kind, change.before) == (UPDATE, before)
    assert change.after == known(line(status="STARTED"), first_seen=100, status_since=NOW)


def test_another_line_with_the_same_status_is_an_update_that_keeps_both_times() -> None:
    data = line().replace(b"flags=0x0", b"flags=0x4")
    change = seen(data, known(line()))
    assert change.kind == UPDATE
    assert change.after == known(data, first_seen=100, status_since=200)


def test_times_that_the_stream_does_not_tell_begin_now() -> None:
    data = line().replace(b"flags=0x0", b"flags=0x4")
    change = seen(data, known(line(), first_seen=None, status_since=None))
    assert change.after == known(data, first_seen=NOW, status_since=NOW)


def test_a_line_that_says_what_the_stream_says_is_adopted_without_an_event() -> None:
    before = known(line(), digest=None, cookie=None, entry=b"7-0")
    change = seen(line(), before)
    assert (change.kind, change.payload, change.before) == (ADOPTED, None, before)
    assert change.after == known(line(), entry=b"7-0")


def test_an_unknown_hash_does_not_hide_another_status() -> None:
    change = seen(line(status="STARTED"), known(line(), digest=None))
    assert change.kind == UPDATE
    assert change.payload is not None


@pytest.mark.parametrize("before", [None, known(line())], ids=[NEW, UPDATE])
def test_the_fold_of_the_event_is_the_row(before: ActionState | None) -> None:
    change = seen(line(status="STARTED"), before)
    live = ActionFold()
    live.apply(b"0-0", decode(change.payload))
    assert list(live) == [change.after]


def test_purged_ends_the_row_and_in_the_fold_its_action() -> None:
    before = known(line(status="FAILED"))
    change = WRITER.purged(before, NOW)
    assert (change.kind, change.before, change.after) == (PURGED, before, None)
    live = ActionFold()
    live.put(before)
    live.apply(b"1-0", decode(change.payload))
    assert list(live) == []


@pytest.mark.parametrize(
    ("data", "cookie", "same"),
    [
        (line(status="STARTED"), "0x6b020001", True),
        (line(), None, True),
        (line(cookie=5), None, True),
        (line(cookie=5), "0x6b020001", False),
        (line(fid="0x1:0x1:0x0"), "0x6b020001", False),
        (line(fid="0x1:0x1:0x0"), None, False),
        (line(action="CANCEL"), "0x6b020001", False),
    ],
    ids=["status", "unknown cookie", "cookie learnt", "cookie", "FID", "FID, unknown cookie", "action, same cookie"],
)
def test_a_place_holds_the_same_action_while_cookie_fid_and_action_agree(
    data: bytes, cookie: str | None, same: bool
) -> None:
    record = parse_line(data)
    assert record is not None
    assert same_action(known(line(), cookie=cookie), record) is same
