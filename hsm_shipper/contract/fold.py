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
from sys import intern
from typing import ClassVar, cast

import msgspec

from hsm_shipper.contract.event import NEW, PURGED, UPDATE, Event, decode, digest_from_hex, digest_told
from hsm_shipper.contract.live_action import NO_DIGEST, LiveAction
from hsm_shipper.contract.whole import NOT_WHOLE, WholeEnd, WholeState
from hsm_shipper.errors import MalformedEvent


class State(WholeState, gc=False):
    """A NEW or UPDATE that says everything."""

    event_type: ClassVar[str]

    raw: str | None = None

    @property
    def line_digest(self) -> bytes | None:
        """See `Event.line_digest`."""
        return digest_told(self.hash, self.raw)


class _New(State, gc=False, tag_field="event_type", tag=NEW):
    event_type = NEW


class _Update(State, gc=False, tag_field="event_type", tag=UPDATE):
    event_type = UPDATE


class End(WholeEnd, gc=False, tag_field="event_type", tag=PURGED):
    """A PURGED that says everything."""


_decode_whole = msgspec.json.Decoder(_New | _Update | End).decode


class DigestsNeeded(Exception):
    """A fold without digests met an entry that only they can place: fold again from the first entry, with them."""


class LiveActions:
    """The live actions of one stream, by packed place and in order of their entries; feed it every entry in order.

    Without `digests` it does not compute the MD5 of every line, a third of its work. What a tool shows and what
    maintenance compares does not need them, but for streams of earlier shippers, which name actions by them: there
    folding raises `DigestsNeeded`.
    """

    def __init__(self, digests: bool = True) -> None:
        self.by_place: dict[int, LiveAction] = {}
        self.has_digests = digests
        # Only streams of earlier shippers need it, so it is built at the first PURGED without a place.
        self._places_by_key: dict[str, set[int]] | None = None
        self._first_seen: int | None = None
        self._status_since: int | None = None

    def __len__(self) -> int:
        return len(self.by_place)

    def __iter__(self) -> Iterator[LiveAction]:
        return iter(self.by_place.values())

    def fold_page(self, page: list[tuple[bytes, bytes | None]]) -> list[bytes]:
        """Fold in the next entries, each an id and its field `data`; returns the ids of those that are no events."""
        malformed = []
        for entry_id, data in page:
            try:
                text = data or b""
                event = _decode_whole(text)
                if not text.isascii():
                    text.decode()  # also what is skipped must be text
                if event.hash is not None:
                    digest_from_hex(event.hash)
            except NOT_WHOLE:
                folded = False
            else:
                if event.__class__ is End:
                    folded = self._end(event)
                else:
                    self._put_state(entry_id, event)
                    folded = True
            if not folded and not self._fold_anything(entry_id, data):
                malformed.append(entry_id)
        return malformed

    def apply(self, entry_id: bytes, event: Event) -> None:
        """Fold in one decoded event (`events.decode`)."""
        if event.event_type == PURGED:
            self._purge(event)
            return
        assert event.place is not None and event.fid and event.action and event.status, "decode() refuses these"
        if event.first_seen is None or event.status_since is None:
            self._complete_times(event.place, event)
        self._put_state(entry_id, cast(State, event))  # it says all that is asked of one, but perhaps a cookie

    def _fold_anything(self, entry_id: bytes, data: bytes | None) -> bool:
        """Fold in any entry, the long way; False if it is no event."""
        try:
            event = decode(data)
        except MalformedEvent:
            return False
        self.apply(entry_id, event)
        return True

    def _put_state(self, entry_id: bytes, event: State) -> None:
        """Fold in a NEW or UPDATE."""
        # The entries of one poll share their times: one object for all.
        if event.first_seen != self._first_seen:
            self._first_seen = _seconds(event.first_seen)
        if event.status_since != self._status_since:
            self._status_since = (
                self._first_seen if event.status_since == self._first_seen else _seconds(event.status_since)
            )
        cookie = event.cookie
        digest = (event.line_digest or NO_DIGEST) if self.has_digests else NO_DIGEST
        self.put(
            LiveAction(
                event.cat_idx << 32 | event.rec_idx,
                event.fid,
                intern(event.action),
                intern(event.status),
                digest + cookie.encode() if cookie else digest,
                self._first_seen,
                self._status_since,
                entry_id,
            )
        )

    def _end(self, event: End) -> bool:
        """Fold in a PURGED if its cookie decides; False if it takes more."""
        occupant = self.by_place.get(event.cat_idx << 32 | event.rec_idx)
        if occupant is None:
            return True
        if occupant.cookie is None:
            return False
        if occupant.cookie == event.cookie:
            self._remove(occupant)
        return True

    def put(self, action: LiveAction) -> None:
        """Place an action whose state is known from elsewhere (the state file), as a NEW would."""
        by_place, place = self.by_place, action.place
        if self._places_by_key is not None:
            self._keep_key(action)
        if place in by_place:
            del by_place[place]  # in its old position the dict would no longer be in order
        by_place[place] = action

    def _purge(self, event: Event) -> None:
        """Fold in a PURGED by the rules."""
        place = event.place
        if place is None:
            self._remove_by_key(event.action_key or "")
            return
        occupant = self.by_place.get(place)
        if occupant is None:
            return
        if not self.has_digests and not (event.cookie and occupant.cookie) and (event.hash or event.raw):
            raise DigestsNeeded
        if _names(event, occupant):
            self._remove(occupant)

    def _complete_times(self, place: int, event: Event) -> None:
        """Fill first_seen and status_since of an earlier shipper's entry: what came before it tells."""
        before = self.by_place.get(place)
        same = before is not None and _is_same(before, event)
        if event.first_seen is None:
            event.first_seen = before.first_seen if before is not None and same else event.timestamp
        if event.status_since is None:
            kept = before is not None and same and before.status == event.status
            event.status_since = before.status_since if before is not None and kept else event.timestamp

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

    def _keep_key(self, action: LiveAction) -> None:
        assert self._places_by_key is not None
        occupant = self.by_place.get(action.place)
        if occupant is not None:
            self._forget_key(occupant)
        self._places_by_key.setdefault(action.action_key, set()).add(action.place)

    def _forget_key(self, action: LiveAction) -> None:
        assert self._places_by_key is not None
        places = self._places_by_key[action.action_key]
        places.discard(action.place)
        if not places:
            del self._places_by_key[action.action_key]


def _seconds(seconds: int | float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _names(purged: Event, occupant: LiveAction) -> bool:
    """Whether a PURGED event speaks of the action that is in its place."""
    if purged.cookie is not None and occupant.cookie is not None:
        return purged.cookie == occupant.cookie
    digest = purged.line_digest
    if digest is not None and occupant.digest is not None:
        return digest == occupant.digest
    return purged.fid == occupant.fid and purged.action == occupant.action


def _is_same(action: LiveAction, event: Event) -> bool:
    cookies_agree = action.cookie is None or event.cookie is None or action.cookie == event.cookie
    return cookies_agree and action.fid == event.fid and action.action == event.action
