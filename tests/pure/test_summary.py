"""Live actions in numbers."""

from __future__ import annotations

from hsm_tools.following.summary import Group, GroupKey, group, oldest_first_seen
from tests.core import line, live_action


def test_actions_are_counted_by_action_and_status_with_their_oldest_times() -> None:
    live = [
        live_action(line(1), first_seen=500, status_since=500),
        live_action(line(2), first_seen=400, status_since=600),
        live_action(line(3), first_seen=None, status_since=None),
        live_action(line(4, "STARTED", action="RESTORE"), first_seen=None, status_since=None),
    ]
    assert group("elm-MDT0000", live) == {
        GroupKey("elm-MDT0000", "ARCHIVE", "WAITING"): Group(3, 400, 500),
        GroupKey("elm-MDT0000", "RESTORE", "STARTED"): Group(1, None, None),
    }


def test_the_oldest_of_all_passes_over_what_is_not_known() -> None:
    assert oldest_first_seen([Group(1, None), Group(1, 7), Group(2, 9)]) == 7
    assert oldest_first_seen([]) is None
