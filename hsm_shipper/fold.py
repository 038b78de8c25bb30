"""The fold: which actions are live, by what a stream says.

One pure function of the entries in order, used by the worker (to catch up), by maintenance and by every tool, so
that all of them agree. The rules:

- NEW and UPDATE put the action in its place `(cat_idx, rec_idx)`, replacing an occupant.
- PURGED with a place removes the occupant only if it is the same action: by cookie where both have one, else by
  hash where both have one, else by FID and action. Places are reused, so a late PURGED must not hit the successor.
- PURGED without a place (earlier shippers) removes every live action with that `action_key`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hsm_shipper.actions import unpack_place
from hsm_shipper.events import PURGED, Event


class LiveAction(msgspec.Struct, gc=False):
    """One live action. Times are seconds since the epoch, None where the stream does not tell.

    `digest` is the MD5 of the kernel's line (16 bytes), None where the entry has neither `raw` nor `hash`;
    `entry_id` is the stream entry that holds this state.
    """

    place: int
    fid: str
    action: str
    status: str
    cookie: str | None
    digest: bytes | None
    first_seen: int | None
    status_since: int | None
    entry_id: str

    @property
    def action_key(self) -> str:
        """`fid:ACTION`."""
        return f"{self.fid}:{self.action}"

    @property
    def cat_idx(self) -> int:
        """Catalogue index of the record's place."""
        return unpack_place(self.place)[0]

    @property
    def rec_idx(self) -> int:
        """Record index of the record's place."""
        return unpack_place(self.place)[1]


class LiveActions:
    """The live actions of one stream, by packed place; feed it every entry in order."""

    def __init__(self) -> None:
        self.by_place: dict[int, LiveAction] = {}
        # Only streams of earlier shippers need it, so it is built at the first PURGED without a place.
        self._places_by_key: dict[str, set[int]] | None = None

    def __len__(self) -> int:
        return len(self.by_place)

    def __iter__(self) -> Iterator[LiveAction]:
        return iter(self.by_place.values())

    def apply(self, entry_id: str, event: Event) -> None:
        """Fold in one decoded event (`events.decode`)."""
        if event.event_type != PURGED:
            self._put(entry_id, event)
            return
        place = event.place
        if place is None:
            self._remove_by_key(event.action_key or "")
            return
        occupant = self.by_place.get(place)
        if occupant is not None and _names(event, occupant):
            self._remove(occupant)

    def put(self, action: LiveAction) -> None:
        """Place an action whose state is known from elsewhere (the state file), as a NEW would."""
        occupant = self.by_place.get(action.place)
        if self._places_by_key is not None:
            if occupant is not None:
                self._forget_key(occupant)
            self._places_by_key.setdefault(action.action_key, set()).add(action.place)
        self.by_place[action.place] = action

    def _put(self, entry_id: str, event: Event) -> None:
        place, fid, action, status = event.place, event.fid, event.action, event.status
        assert place is not None and fid and action and status, "events.decode() refuses such an event"
        timestamp = _whole(event.timestamp)
        first_seen, status_since = _whole(event.first_seen), _whole(event.status_since)
        if first_seen is None or status_since is None:  # an earlier shipper's entry: its history tells
            before = self.by_place.get(place)
            same = before is not None and _same_action(before, event)
            if first_seen is None:
                first_seen = before.first_seen if before is not None and same else timestamp
            if status_since is None:
                kept = before is not None and same and before.status == status
                status_since = before.status_since if before is not None and kept else timestamp
        self.put(
            LiveAction(
                place,
                fid,
                action,
                status,
                event.cookie,
                event.line_digest,
                first_seen,
                status_since,
                entry_id,
            )
        )

    def _remove(self, action: LiveAction) -> None:
        del self.by_place[action.place]
        if self._places_by_key is not None:
            self._forget_key(action)

    def _remove_by_key(self, action_key: str) -> None:
        if self._places_by_key is None:
            self._places_by_key = {}
            for action in self:
                self._places_by_key.setdefault(action.action_key, set()).add(action.place)
        for place in self._places_by_key.pop(action_key, ()):
            del self.by_place[place]

    def _forget_key(self, action: LiveAction) -> None:
        assert self._places_by_key is not None
        places = self._places_by_key[action.action_key]
        places.discard(action.place)
        if not places:
            del self._places_by_key[action.action_key]


def _names(purged: Event, occupant: LiveAction) -> bool:
    """Whether a PURGED event speaks of the action that is in its place."""
    if purged.cookie is not None and occupant.cookie is not None:
        return purged.cookie == occupant.cookie
    digest = purged.line_digest
    if digest is not None and occupant.digest is not None:
        return digest == occupant.digest
    return purged.fid == occupant.fid and purged.action == occupant.action


def _same_action(action: LiveAction, event: Event) -> bool:
    cookies_agree = action.cookie is None or event.cookie is None or action.cookie == event.cookie
    return cookies_agree and action.fid == event.fid and action.action == event.action


def _whole(seconds: int | float | None) -> int | None:
    return None if seconds is None else int(seconds)
