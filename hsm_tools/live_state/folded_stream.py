"""What one process tells another of a stream that it has folded: all of it, in few bytes."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.stream.replay import Reached
from hsm_tools.live_state.summary import ActionGroup, GroupKey
from hsm_tools.live_state.tally import Tally

_FIELDS = ActionState.__struct_fields__
# What many actions have in common, by one object for all of them.
_SHARED = frozenset({"action", "status", "first_seen", "status_since", "archive_id"})
# Of marshal's format: from version 3 on an object that is met again is named by its number, and is one object again for
# whoever reads it. To look whether it is met again takes as long as all the rest.
_VERSION, _VERSION_SHARED = 2, 4


class FoldedStream(NamedTuple):
    """A stream as a process beside this one has folded it."""

    reached: Reached
    tally: Tally
    groups: dict[GroupKey, ActionGroup]
    live: int
    """How many live actions it has."""
    packed: list[bytes]
    """These, see `unpacked`: some 120 bytes each."""


def packed(live: ActionFold) -> list[bytes]:
    """The live actions of a fold, in their order: a column for each of their fields."""
    # marshal is for two processes of one Python, as these are.
    return [
        marshal.dumps(list(map(attrgetter(field), live)), _VERSION_SHARED if field in _SHARED else _VERSION)
        for field in _FIELDS
    ]


def unpacked(columns: list[bytes]) -> Iterator[ActionState]:
    """The live actions that were packed."""
    return map(ActionState, *map(marshal.loads, columns))
