"""The live actions of a stream in numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hsm_shipper.contract.action_state import ActionState
from hsm_tools.command.filters import ActionFilter
from hsm_tools.live_state.tally import Arrivals

if TYPE_CHECKING:  # which counts its groups by this module
    from hsm_tools.live_state.live_stream import LiveStream


class GroupKey(NamedTuple):
    """By what live actions are counted, sorted as tables show them."""

    mdt: str
    action: str
    status: str
    archive_id: int | None = None
    """None where the stream does not tell it."""


class ActionGroup(msgspec.Struct):
    """Live actions that have a key in common. Times are seconds since the epoch, None where not known."""

    count: int = 0
    oldest_first_seen: int | None = None
    oldest_status_since: int | None = None

    def add(self, other: ActionGroup) -> None:
        """Count what `other` has counted, too."""
        self.count += other.count
        self.oldest_first_seen = older(self.oldest_first_seen, other.oldest_first_seen)
        self.oldest_status_since = older(self.oldest_status_since, other.oldest_status_since)


class Summaries:
    """The groups of every stream; those of a stream that has not changed are not counted again."""

    def __init__(self, wanted: ActionFilter) -> None:
        self._wanted = wanted
        self._known: dict[str, tuple[tuple[str, int], dict[GroupKey, ActionGroup]]] = {}

    def groups(self, streams: Iterable[LiveStream]) -> dict[GroupKey, ActionGroup]:
        """The groups of live actions that are wanted, in order of their keys."""
        known: dict[str, tuple[tuple[str, int], dict[GroupKey, ActionGroup]]] = {}
        found: dict[GroupKey, ActionGroup] = {}
        for stream in streams:
            state = (stream.folded_to, stream.entries)
            before = self._known.get(stream.mdt)
            if before is None or before[0] != state:
                before = (state, stream.groups())
            known[stream.mdt] = before
            found |= before[1]
        self._known = known
        return {
            key: found[key]
            for key in sorted(found, key=lambda key: (key[:3], archive_order(key.archive_id)))
            if self._wanted(*key[:3])
        }


def archive_order(archive_id: int | None) -> tuple[bool, int]:
    """Sorts archives by their ids; what is not known comes last."""
    return archive_id is None, archive_id or 0


def group(mdt: str, live: Iterable[ActionState]) -> dict[GroupKey, ActionGroup]:
    """The groups of one stream's live actions."""
    # Every refresh goes through all that is live where anything has changed: no calls and no objects in this loop.
    found: dict[tuple[str, str, int | None], list[float]] = {}
    for action in live:
        key = (action.action, action.status, action.archive_id)
        try:
            counted = found[key]
        except KeyError:
            counted = found[key] = [0, math.inf, math.inf]
        counted[0] += 1
        time = action.first_seen
        if time is not None and time < counted[1]:
            counted[1] = time
        time = action.status_since
        if time is not None and time < counted[2]:
            counted[2] = time
    return {
        GroupKey(mdt, *key): ActionGroup(int(count), _known(first_seen), _known(status_since))
        for key, (count, first_seen, status_since) in found.items()
    }


def _known(time: float) -> int | None:
    return None if time == math.inf else int(time)


def older(one: int | None, other: int | None) -> int | None:
    """The earlier of two times; one that is not known is passed over."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def arrivals(streams: Iterable[LiveStream], now_s: float) -> tuple[int, ...]:
    """Entries of all streams in each ten seconds of the last hour before `now_s`, the oldest first."""
    steps = Arrivals.KEPT_S // Arrivals.STEP_S
    counts = [stream.tally.arrivals.steps(now_s, steps) for stream in streams]
    return tuple(map(sum, zip(*counts, strict=True))) if counts else (0,) * steps


def oldest_first_seen(groups: Iterable[ActionGroup]) -> int | None:
    """When the oldest action of all was first seen, seconds since the epoch."""
    return min((found.oldest_first_seen for found in groups if found.oldest_first_seen is not None), default=None)
