"""What a stream must never say, independent of how it was written: the judge of every scenario."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import redis

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import NEW, PURGED, Event, decode, line_digest
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.kernel_line import unpack_place
from hsm_shipper.errors import MalformedEvent

Place = tuple[int, int]


@dataclass
class Verdict:
    """A whole stream, replayed."""

    live: ActionFold = field(default_factory=ActionFold)
    events: Counter[str] = field(default_factory=Counter)
    refreshes: int = 0
    malformed: int = 0
    complaints: list[str] = field(default_factory=list)
    """Every false or duplicate event, in words."""
    trimmed: bool = False
    """Whether the stream's beginning is gone: what is first said of a place may go on from there."""
    _mentioned: set[int] = field(default_factory=set)

    def add(self, entry_id: str, data: bytes | None) -> None:
        """Judge the next entry by what the ones before it said."""
        try:
            event = decode(data)
        except MalformedEvent:
            self.malformed += 1
            return
        self.events[event.event_type] += 1
        self.refreshes += event.refresh
        complaint = _complaint(self.live, event)
        goes_on = self.trimmed and event.place is not None and event.place not in self._mentioned
        if complaint is not None and not goes_on:
            self.complaints.append(f"{entry_id}: {complaint}")
        self._mentioned.add(event.place or 0)
        self.live.apply(entry_id.encode(), event)

    def digests(self) -> dict[Place, bytes | None]:
        """MD5 of every live line, by place."""
        return {unpack_place(action.place): action.digest for action in self.live}


def judge_stream(client: redis.Redis, key: str) -> Verdict:
    """Replay the whole stream `key`."""
    trimmed = client.exists(key) and client.xinfo_stream(key)["entries-added"] > client.xlen(key)
    verdict = Verdict(trimmed=bool(trimmed))
    for entry_id, data in entries_of(client, key):
        verdict.add(entry_id, data)
    return verdict


def entries_of(client: redis.Redis, key: str, start: str = "-") -> list[tuple[str, bytes | None]]:
    """Every entry of the stream `key` from `start` on: its id and its field `data`."""
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(key, start))
    return [(entry_id.decode(), fields.get(b"data")) for entry_id, fields in entries]


def digests_of(listing: bytes) -> dict[Place, bytes]:
    """MD5 of every line of an actions file, by place, read without the project's parser."""
    found = {}
    for line in listing.splitlines():
        cat, _, rec = line.split(b" idx=")[1].split(b"]")[0].partition(b"/")
        found[int(cat), int(rec)] = line_digest(line)
    return found


def _complaint(live: ActionFold, event: Event) -> str | None:
    place = event.place
    occupant = None if place is None else live.by_place.get(place)
    if event.event_type == PURGED:
        named = [occupant] if place is not None else [a for a in live if a.action_key == event.action_key]
        right = any(action is not None and _names(event, action) for action in named)
        return None if right else f"PURGED of {event.action_key}, which is not live"
    if event.event_type == NEW:
        return None if occupant is None else f"NEW of {event.action_key} in the place of {occupant.action_key}"
    if occupant is None:
        return f"UPDATE of {event.action_key}, which is not live"
    if not _same(occupant, event):
        return f"UPDATE of {event.action_key} in the place of {occupant.action_key}"
    if event.line_digest == occupant.digest and not event.refresh:
        return f"UPDATE of {event.action_key} that changes nothing"
    return None


def _names(event: Event, action: ActionState) -> bool:
    if event.cookie is not None and action.cookie is not None:
        return event.cookie == action.cookie
    return (action.fid, action.action) == (event.fid, event.action)


def _same(occupant: ActionState, event: Event) -> bool:
    return (occupant.fid, occupant.action) == (event.fid, event.action) and occupant.cookie == event.cookie
