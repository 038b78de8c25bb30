"""Live actions in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from hsm_tools.following.summary import Group, GroupKey, group, oldest_first_seen


@dataclass
class _Action:
    first_seen: int | None
    status_since: int | None
    archive_id: int | None
    action: str = "ARCHIVE"
    status: str = "WAITING"


def test_actions_are_counted_by_action_status_and_archive_with_their_oldest_times() -> None:
    live = [
        _Action(500, 500, 12),
        _Action(None, None, None),
        _Action(400, 600, 2),
        _Action(None, None, 1, "RESTORE", "STARTED"),
        _Action(450, 650, 12),
    ]
    found = group("elm-MDT0000", live)
    waiting = {2: Group(1, 400, 600), 12: Group(2, 450, 500), None: Group(1)}
    assert found == {
        GroupKey("elm-MDT0000", "ARCHIVE", "WAITING"): Group(4, 400, 500, waiting),
        GroupKey("elm-MDT0000", "RESTORE", "STARTED"): Group(1, None, None, {1: Group(1)}),
    }
    assert list(found[GroupKey("elm-MDT0000", "ARCHIVE", "WAITING")].archives) == [2, 12, None]


def test_the_oldest_of_all_passes_over_what_is_not_known() -> None:
    assert oldest_first_seen([Group(1, None), Group(1, 7), Group(2, 9)]) == 7
    assert oldest_first_seen([]) is None
