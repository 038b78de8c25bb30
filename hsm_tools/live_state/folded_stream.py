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


class FoldedStream(NamedTuple):
    """A stream as a process beside this one has folded it."""

    reached: Reached
    tally: Tally
    groups: dict[GroupKey, ActionGroup]
    live: int
    """How many live actions it has."""
    packed: bytes
    """These, see `unpacked`: some 115 bytes each."""


def packed(live: ActionFold) -> bytes:
    """The live actions of a fold, in their order."""
    # marshal is for two processes of one Python, as these are. It writes an object that actions have in common (their
    # words, their times) once, and whoever reads it has them in common again; pickle takes longer, and repeats numbers.
    return marshal.dumps([list(map(attrgetter(field), live)) for field in _FIELDS])


def unpacked(columns: bytes) -> Iterator[ActionState]:
    """The live actions that were packed."""
    return map(ActionState, *marshal.loads(columns))
