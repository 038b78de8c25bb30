"""The live actions of a stream in numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from hsm_shipper.fold import LiveAction
from hsm_tools.filters import ActionFilter
from hsm_tools.follow import LiveStream


class GroupKey(NamedTuple):
    """By what live actions are counted, sorted as tables show them."""

    mdt: str
    action: str
    status: str


class Group(msgspec.Struct):
    """The live actions of one MDT, action and status. Times are seconds since the epoch, None where not known."""

    count: int = 0
    oldest_first_seen: int | None = None
    oldest_status_since: int | None = None


class Summaries:
    """The groups of every stream; those of a stream that has not changed are not counted again."""

    def __init__(self, wanted: ActionFilter) -> None:
        self._wanted = wanted
        self._known: dict[str, tuple[tuple[str, int], dict[GroupKey, Group]]] = {}

    def groups(self, streams: Iterable[LiveStream]) -> dict[GroupKey, Group]:
        """The groups of live actions that are wanted, in order of their keys."""
        known: dict[str, tuple[tuple[str, int], dict[GroupKey, Group]]] = {}
        found: dict[GroupKey, Group] = {}
        for stream in streams:
            state = (stream.folded_to, stream.entries)
            before = self._known.get(stream.mdt)
            if before is None or before[0] != state:
                before = (state, group(stream.mdt, stream.live))
            known[stream.mdt] = before
            found |= before[1]
        self._known = known
        return {key: found[key] for key in sorted(found) if self._wanted(*key)}


def group(mdt: str, live: Iterable[LiveAction]) -> dict[GroupKey, Group]:
    """The groups of one stream's live actions."""
    groups: dict[tuple[str, str], Group] = {}
    for action in live:
        key = (action.action, action.status)
        found = groups.get(key)
        if found is None:
            found = groups[key] = Group()
        found.count += 1
        found.oldest_first_seen = _older(found.oldest_first_seen, action.first_seen)
        found.oldest_status_since = _older(found.oldest_status_since, action.status_since)
    return {GroupKey(mdt, *key): found for key, found in groups.items()}


def _older(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def oldest_first_seen(groups: Iterable[Group]) -> int | None:
    """When the oldest action of all was first seen, seconds since the epoch."""
    return min((found.oldest_first_seen for found in groups if found.oldest_first_seen is not None), default=None)
