"""Live actions between two processes: the same ones arrive, and what they have in common is one object again."""

from __future__ import annotations

from sys import intern

import msgspec

from hsm_shipper.contract.fold import ActionFold
from hsm_tools.live_state.folded_stream import packed, unpacked
from tests.support.core import line, live_action

FIRST_SEEN = 1_795_348_105


def test_live_actions_arrive_as_they_were() -> None:
    fold = ActionFold()
    fold.put(live_action(line(3, "FAILED"), first_seen=None, status_since=None, cookie=None, archive_id=None))
    fold.put(live_action(line(2**31, cat=2**31 + 1), fid="\ud800 \u202e", entry=b"1795343525123-18446744073709551615"))
    fold.put(live_action(line(1), digest=None, archive_id=2**32 - 1))
    found = list(unpacked(packed(fold)))
    assert [msgspec.structs.astuple(action) for action in found] == [msgspec.structs.astuple(it) for it in fold]


def test_none_arrive_where_there_are_none() -> None:
    assert list(unpacked(packed(ActionFold()))) == []


def test_they_take_no_more_memory_than_where_they_were_folded() -> None:
    fold = ActionFold()
    for rec in range(3):
        fold.put(live_action(line(rec), first_seen=FIRST_SEEN, status_since=FIRST_SEEN))
    first, *others = unpacked(packed(fold))
    assert first.action is intern("ARCHIVE") and first.status is intern("WAITING")
    assert all(other.first_seen is first.first_seen for other in others)
    assert all(other.action is first.action for other in others)


def test_they_are_few_bytes() -> None:
    fold = ActionFold()
    for rec in range(1000):
        fold.put(live_action(line(rec), digest=None, entry=b"1795343525123-18", first_seen=FIRST_SEEN + rec // 100))
    assert sum(map(len, packed(fold))) < 130 * len(fold)
