"""Live actions in numbers."""

from __future__ import annotations

from hsm_tools.live_state.summary import ActionGroup, GroupKey, group, oldest_first_seen
from tests.support.core import line, live_action


def test_actions_are_counted_by_action_status_and_archive_with_their_oldest_times() -> None:
    live = [
        live_action(line(1), archive_id=1, first_seen=500, status_since=500),
        live_action(line(2), archive_id=1, first_seen=400, status_since=600),
        live_action(line(3), archive_id=1, first_seen=None, status_since=None),
        live_action(line(4), archive_id=2, first_seen=450, status_since=None),
        live_action(line(5), first_seen=300, status_since=300),
        live_action(line(6, "STARTED", action="RESTORE"), archive_id=1, first_seen=None, status_since=None),
    ]
    assert group("elm-MDT0000", live) == {
        GroupKey("elm-MDT0000", "ARCHIVE", "WAITING", 1): ActionGroup(3, 400, 500),
        GroupKey("elm-MDT0000", "ARCHIVE", "WAITING", 2): ActionGroup(1, 450, None),
        GroupKey("elm-MDT0000", "ARCHIVE", "WAITING"): ActionGroup(1, 300, 300),
        GroupKey("elm-MDT0000", "RESTORE", "STARTED", 1): ActionGroup(1, None, None),
    }


def test_two_groups_in_one_have_the_oldest_times_of_both() -> None:
    both = ActionGroup(2, 400, None)
    both.add(ActionGroup(3, 300, 600))
    assert both == ActionGroup(5, 300, 600)


def test_the_oldest_of_all_passes_over_what_is_not_known() -> None:
    assert oldest_first_seen([ActionGroup(1, None), ActionGroup(1, 7), ActionGroup(2, 9)]) == 7
    assert oldest_first_seen([]) is None
