"""Which actions have waited longest."""

from __future__ import annotations

from typing import Any, NamedTuple

from hsm_shipper.contract.action_state import ActionState
from hsm_tools.dashboard.data.longest_waiting import longest_waiting
from hsm_tools.live_state.summary import GroupKey
from tests.support.core import line, live_action

A, B = "elm-MDT0000", "elm-MDT0001"


class Stream(NamedTuple):
    mdt: str
    live: list[ActionState]


def action(rec: int, first_seen: int | None, status: str = "WAITING", archive_id: int | None = None) -> ActionState:
    return live_action(line(rec, status), archive_id=archive_id, first_seen=first_seen)


def found(streams: list[Any], groups: set[GroupKey], most: int) -> tuple[int, list[tuple[str, int]]]:
    result = longest_waiting(streams, groups, most)
    return result.total, [(one.mdt, one.action.rec_idx) for one in result.actions]


def test_the_oldest_of_all_streams_come_first_and_the_rest_is_counted() -> None:
    streams = [Stream(A, [action(1, 30), action(2, 10), action(3, None)]), Stream(B, [action(1, 20), action(2, 40)])]
    groups = {GroupKey(A, "ARCHIVE", "WAITING"), GroupKey(B, "ARCHIVE", "WAITING")}
    assert found(streams, groups, 3) == (5, [(A, 2), (B, 1), (A, 1)])
    assert found(streams, groups, 9) == (5, [(A, 2), (B, 1), (A, 1), (B, 2), (A, 3)]), "unknown times come last"


def test_only_the_groups_asked_for_are_looked_at() -> None:
    streams = [Stream(A, [action(1, 30), action(2, 10, "FAILED")]), Stream(B, [action(3, 5)])]
    assert found(streams, {GroupKey(A, "ARCHIVE", "FAILED")}, 9) == (1, [(A, 2)])
    assert found(streams, set(), 9) == (0, [])
    archives = [Stream(A, [action(1, 30, archive_id=1), action(2, 10, archive_id=2), action(3, 20)])]
    assert found(archives, {GroupKey(A, "ARCHIVE", "WAITING", 2)}, 9) == (1, [(A, 2)])


def test_the_same_action_in_another_state_is_still_the_same() -> None:
    [before] = longest_waiting([Stream(A, [action(1, 30)])], {GroupKey(A, "ARCHIVE", "WAITING")}, 1).actions  # type: ignore[list-item]
    [after] = longest_waiting([Stream(A, [action(1, 30, "STARTED")])], {GroupKey(A, "ARCHIVE", "STARTED")}, 1).actions  # type: ignore[list-item]
    assert before.identity == after.identity
