"""Which live actions have waited longest. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from hsm_shipper.contract.action_state import ActionState
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.live_state.summary import GroupKey


class ActionRow(NamedTuple):
    """One live action, and its MDT, as a table shows it."""

    mdt: str
    action: ActionState

    @property
    def identity(self) -> tuple[str, int, str | None, str]:
        """What stays of it while its state changes."""
        return self.mdt, self.action.place, self.action.cookie, self.action.action_key


class LongestWaiting(NamedTuple):
    """The oldest actions of some groups, the oldest first."""

    total: int
    """How many there are in all."""
    actions: tuple[ActionRow, ...]


def longest_waiting(streams: Iterable[LiveStream], groups: Container[GroupKey], most: int) -> LongestWaiting:
    """At most `most` of the actions in `groups`; those whose first time is not known come last."""
    total = 0

    def counted() -> Iterator[tuple[float, ActionRow]]:
        nonlocal total
        for stream in streams:
            verdicts: dict[tuple[str, str, int | None], bool] = {}
            for action in stream.live:
                key = (action.action, action.status, action.archive_id)
                if key not in verdicts:
                    verdicts[key] = GroupKey(stream.mdt, *key) in groups
                if verdicts[key]:
                    total += 1
                    first_seen = action.first_seen
                    yield (math.inf if first_seen is None else first_seen), ActionRow(stream.mdt, action)

    actions = tuple(found for _, found in heapq.nsmallest(most, counted(), key=lambda item: item[0]))
    return LongestWaiting(total, actions)
