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
from sys import intern as _intern

import msgspec

from hsm_shipper.actions import unpack_place
from hsm_shipper.errors import MalformedEvent
from hsm_shipper.events import PURGED, Event, decode

# No line has an MD5 of all zeros but with a chance of 2^-128.
_NO_DIGEST = bytes(16)


def pack_id(entry_id: str | bytes) -> int:
    """One integer for an entry id `<milliseconds>-<sequence>`, sorted as Redis sorts ids."""
    text = entry_id if isinstance(entry_id, str) else entry_id.decode()
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds) << 64 | int(sequence)


def unpack_id(entry: int) -> str:
    """The entry id of a packed one."""
    return f"{entry >> 64}-{entry & 0xFFFF_FFFF_FFFF_FFFF}"


class LiveAction(msgspec.Struct, gc=False):
    """One live action. Times are seconds since the epoch, None where the stream does not tell.

    Some 400 bytes with its place in a dict: `mark` is what would be two objects in a naive one, and `entry` the very
    object that came from the server.
    """

    place: int
    fid: str
    action: str
    status: str
    mark: bytes
    first_seen: int | None
    status_since: int | None
    entry: bytes

    @classmethod
    def make(
        cls,
        place: int,
        fid: str,
        action: str,
        status: str,
        cookie: str | None,
        digest: bytes | None,
        first_seen: int | None,
        status_since: int | None,
        entry: bytes = b"0-0",
    ) -> LiveAction:
        """An action with `digest`, the MD5 of the kernel's line (16 bytes), and the id of its stream entry.

        `cookie` and `digest` are None where the entry does not tell them.
        """
        return cls(
            place,
            fid,
            _intern(action),
            _intern(status),
            (digest or _NO_DIGEST) + (b"" if cookie is None else cookie.encode()),
            first_seen,
            first_seen if status_since == first_seen else status_since,
            entry,
        )

    @property
    def digest(self) -> bytes | None:
        """MD5 of the kernel's line, 16 bytes; None where the entry has neither `raw` nor `hash`, or it was not kept."""
        digest = self.mark[:16]
        return None if digest == _NO_DIGEST else digest

    @property
    def cookie(self) -> str | None:
        """The kernel's cookie, hex text; None where the entry does not tell it."""
        return self.mark[16:].decode() or None

    @property
    def entry_id(self) -> str:
        """The stream entry that holds this state."""
        return self.entry.decode()

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


def same_action(one: LiveAction, other: LiveAction) -> bool:
    """Whether both are one action: cookie, FID and action agree, a cookie that is not told agreeing with any."""
    cookies_agree = one.cookie is None or other.cookie is None or one.cookie == other.cookie
    return cookies_agree and one.fid == other.fid and one.action == other.action


def same_state(one: LiveAction, other: LiveAction) -> bool:
    """Whether both are one action in one state: the same line, or the same status where one does not tell its line."""
    if one.digest is not None and other.digest is not None:
        if one.digest != other.digest:
            return False
    elif one.status != other.status:
        return False
    return same_action(one, other)


class DigestsNeeded(Exception):
    """A fold without digests met an entry that only they can place: fold again from the first entry, with them."""


class LiveActions:
    """The live actions of one stream, by packed place and in order of their entries; feed it every entry in order.

    Without `digests` it does not compute the MD5 of every line, a third of its work. What a tool shows does not need
    them, but for streams of earlier shippers, which name actions by them: there `apply` raises `DigestsNeeded`.
    """

    def __init__(self, digests: bool = True) -> None:
        self.by_place: dict[int, LiveAction] = {}
        self._digests = digests
        # Only streams of earlier shippers need it, so it is built at the first PURGED without a place.
        self._places_by_key: dict[str, set[int]] | None = None
        self._first_seen: int | None = None
        self._status_since: int | None = None

    def __len__(self) -> int:
        return len(self.by_place)

    def __iter__(self) -> Iterator[LiveAction]:
        return iter(self.by_place.values())

    def apply(self, entry_id: bytes, event: Event) -> None:
        """Fold in one decoded event (`events.decode`)."""
        if event.event_type == PURGED:
            self._purge(event)
            return
        cat_idx, rec_idx, fid, action, status = event.cat_idx, event.rec_idx, event.fid, event.action, event.status
        assert cat_idx is not None and rec_idx is not None and fid and action and status, "decode() refuses these"
        place = cat_idx << 32 | rec_idx
        if event.first_seen is None or event.status_since is None:
            self._complete_times(place, event)
        # The entries of one poll share their times: one object for all.
        if event.first_seen != self._first_seen:
            self._first_seen = _whole(event.first_seen)
        if event.status_since != self._status_since:
            self._status_since = (
                self._first_seen if event.status_since == self._first_seen else _whole(event.status_since)
            )
        cookie = event.cookie
        digest = (event.line_digest or _NO_DIGEST) if self._digests else _NO_DIGEST
        self.put(
            LiveAction(
                place,
                fid,
                _intern(action),
                _intern(status),
                digest + cookie.encode() if cookie else digest,
                self._first_seen,
                self._status_since,
                entry_id,
            )
        )

    def fold_page(self, page: list[tuple[bytes, bytes | None]]) -> list[bytes]:
        """Fold in the next entries, each an id and its field `data`; returns the ids of those that are no events."""
        malformed = []
        for entry_id, data in page:
            try:
                event = decode(data)
            except MalformedEvent:
                malformed.append(entry_id)
            else:
                self.apply(entry_id, event)
        return malformed

    def put(self, action: LiveAction) -> None:
        """Place an action whose state is known from elsewhere (the state file), as a NEW would."""
        by_place, place = self.by_place, action.place
        if self._places_by_key is not None:
            self._keep_key(action)
        if place in by_place:
            del by_place[place]  # in its old position the dict would no longer be in order
        by_place[place] = action

    def _purge(self, event: Event) -> None:
        place = event.place
        if place is None:
            self._remove_by_key(event.action_key or "")
            return
        occupant = self.by_place.get(place)
        if occupant is None:
            return
        if not self._digests and not (event.cookie and occupant.cookie) and (event.hash or event.raw):
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


def _whole(seconds: int | float | None) -> int | None:
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
