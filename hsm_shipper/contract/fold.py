"""The fold: which actions are live, by what a stream says.

One pure function of the entries in order, used by the worker (to catch up), by maintenance and by every tool, so
that all of them agree. The rules:

- NEW and UPDATE put the action in its place `(cat_idx, rec_idx)`, replacing an occupant.
- PURGED with a place removes the occupant only if it is the same action: by cookie where both have one, else by
  hash where both have one, else by FID and action. Places are reused, so a late PURGED must not hit the successor.
- PURGED without a place (earlier shippers) removes every live action with that `action_key`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from sys import intern

from hsm_shipper.contract.action_state import NO_DIGEST, ActionState
from hsm_shipper.contract.event import PURGED, Event, decode
from hsm_shipper.errors import MalformedEvent

DigestOf = Callable[[bytes], bytes | None]
"""Tells the MD5 (16 bytes) of the line of an entry, by its id; None where the entry does not tell it."""


Entry = tuple[bytes, bytes | None]
"""One entry: its id and the value of its field `data`, None without one. A bare tuple, for there are many."""

Folded = tuple[bytes, Event, ActionState | None, ActionState | None]
"""What an event did: the id of its entry, the event, the action that it replaced or ended, and the one that it made.

Either action is None where there is none. Of several that a PURGED without a place ended, one is told.
"""

LookUp = Callable[[Sequence[Event]], Iterable[ActionState]]
"""Tells which live actions some events may end, or go on from."""


class Observer(ABC):
    """Is told what a fold makes of a stream, page by page and in order."""

    @abstractmethod
    def page_folded(self, page: Sequence[Entry], folded: Sequence[Folded], malformed: Sequence[bytes], /) -> None:
        """All entries of a page were folded in, but for `malformed`, the ids of those that are no events."""


class ActionFold:
    """The live actions of one stream, by packed place and in order of their entries; feed it every entry in order.

    The MD5 of every line is a third of a fold's work, and what a tool shows and maintenance compares hardly needs it.
    With `digest_of` it is computed for entries of earlier shippers only, which name actions by it; where such a
    shipper ends an action of ours, `digest_of` is asked, and may raise.
    """

    def __init__(self, observer: Observer | None = None, *, digest_of: DigestOf | None = None) -> None:
        self.by_place: dict[int, ActionState] = {}
        self._observer = observer
        self._digest_of = digest_of
        # Only streams of earlier shippers need it, so it is built at the first PURGED without a place.
        self._places_by_key: dict[str, set[int]] | None = None

    @property
    def has_digests(self) -> bool:
        """Whether every live action has the MD5 of its line, as far as its entry tells it."""
        return self._digest_of is None

    def __len__(self) -> int:
        return len(self.by_place)

    def __iter__(self) -> Iterator[ActionState]:
        return iter(self.by_place.values())

    def fold_page(self, page: Sequence[Entry], look_up: LookUp = lambda _: ()) -> list[bytes]:
        """Fold in the next entries; returns the ids of those that are no events.

        A fold that does not hold all that is live is given what its page needs by `look_up`.
        """
        entry_ids, events, malformed = _decoded(page)
        for action in look_up(events):
            self.put(action)
        if self._observer is None:
            self._fold(entry_ids, events)
        else:
            folded: list[Folded] = []
            self._fold(entry_ids, events, folded.append)
            self._observer.page_folded(page, folded, malformed)
        return malformed

    def apply(self, entry_id: bytes, event: Event) -> None:
        """Fold in one decoded event (`event.decode`), of which no observer is told."""
        self._fold([entry_id], [event])

    def _fold(
        self, entry_ids: Sequence[bytes], events: Sequence[Event], tell: Callable[[Folded], None] | None = None
    ) -> None:
        """Fold in decoded events; what they do not tell of their times is filled in."""
        by_place, keeps_digests = self.by_place, self._digest_of is None
        first_seen = status_since = None
        # Every step here is taken a million times.
        for entry_id, event in zip(entry_ids, events, strict=True):
            cat_idx, rec_idx, after = event.cat_idx, event.rec_idx, None
            if cat_idx is None or rec_idx is None:
                before = self._remove_by_key(event.action_key or "")
            elif event.event_type == PURGED:
                before = self._purge(cat_idx << 32 | rec_idx, event)
            else:
                place = cat_idx << 32 | rec_idx
                fid, action, status, cookie = event.fid, event.action, event.status, event.cookie
                assert fid and action and status, "decode() refuses these"
                if event.first_seen is None or event.status_since is None:
                    self._complete_times(place, event)
                # The entries of one poll share their times: one object for all.
                if event.first_seen != first_seen:
                    first_seen = _seconds(event.first_seen)
                if event.status_since != status_since:
                    status_since = first_seen if event.status_since == first_seen else _seconds(event.status_since)
                digest = NO_DIGEST
                if keeps_digests or event.host is None:  # which earlier shippers do not name
                    digest = event.line_digest or NO_DIGEST
                mark = digest + cookie.encode() if cookie else digest
                after = ActionState(
                    place, fid, intern(action), intern(status), mark, first_seen, status_since, entry_id
                )
                if self._places_by_key is not None:
                    self._keep_key(after)
                before = by_place.pop(place, None)  # in its old position the dict would no longer be in order
                by_place[place] = after
            if tell is not None:
                tell((entry_id, event, before, after))

    def put(self, action: ActionState) -> None:
        """Place an action whose state is known from elsewhere (the state file), as a NEW would."""
        if self._places_by_key is not None:
            self._keep_key(action)
        self.by_place.pop(action.place, None)
        self.by_place[action.place] = action

    def _purge(self, place: int, event: Event) -> ActionState | None:
        """Remove what a PURGED ends by the rules; returns it."""
        occupant = self.by_place.get(place)
        if occupant is None:
            return None
        cookie = event.cookie
        # Mostly it is the very cookie: the bytes tell it without a string of them.
        if not (cookie and occupant.mark[16:] == cookie.encode()) and not self._names(event, occupant):
            return None
        del self.by_place[place]
        if self._places_by_key is not None:
            self._forget_key(occupant)
        return occupant

    def _names(self, purged: Event, occupant: ActionState) -> bool:
        """Whether a PURGED event speaks of the action that is in its place."""
        theirs = occupant.cookie
        if purged.cookie is not None and theirs is not None:
            return purged.cookie == theirs
        digest = purged.line_digest
        if digest is not None:
            known = occupant.digest
            if known is None and self._digest_of is not None:
                known = self._digest_of(occupant.entry)
            if known is not None:
                return digest == known
        return purged.fid == occupant.fid and purged.action == occupant.action

    def _complete_times(self, place: int, event: Event) -> None:
        """Fill first_seen and status_since of an earlier shipper's entry: what came before it tells."""
        before = self.by_place.get(place)
        same = before is not None and _is_same(before, event)
        if event.first_seen is None:
            event.first_seen = before.first_seen if before is not None and same else event.timestamp
        if event.status_since is None:
            kept = before is not None and same and before.status == event.status
            event.status_since = before.status_since if before is not None and kept else event.timestamp

    def _remove_by_key(self, action_key: str) -> ActionState | None:
        """Remove all actions of a key; returns one of them."""
        if self._places_by_key is None:
            self._places_by_key = {}
            for action in self:
                self._places_by_key.setdefault(action.action_key, set()).add(action.place)
        removed = None
        for place in self._places_by_key.pop(action_key, ()):
            removed = self.by_place.pop(place)
        return removed

    def _keep_key(self, action: ActionState) -> None:
        assert self._places_by_key is not None
        occupant = self.by_place.get(action.place)
        if occupant is not None:
            self._forget_key(occupant)
        self._places_by_key.setdefault(action.action_key, set()).add(action.place)

    def _forget_key(self, action: ActionState) -> None:
        assert self._places_by_key is not None
        places = self._places_by_key[action.action_key]
        places.discard(action.place)
        if not places:
            del self._places_by_key[action.action_key]


def _decoded(page: Sequence[Entry]) -> tuple[list[bytes], list[Event], list[bytes]]:
    """The events of a page: the ids of their entries and they themselves; and the ids of those that are no events."""
    try:
        # All at once, which takes four fifths of the time.
        return [entry_id for entry_id, _ in page], [decode(data) for _, data in page], []
    except MalformedEvent:
        pass
    entry_ids, events, malformed = [], [], []
    for entry_id, data in page:
        try:
            events.append(decode(data))
            entry_ids.append(entry_id)
        except MalformedEvent:
            malformed.append(entry_id)
    return entry_ids, events, malformed


def _seconds(seconds: int | float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _is_same(action: ActionState, event: Event) -> bool:
    cookies_agree = action.cookie is None or event.cookie is None or action.cookie == event.cookie
    return cookies_agree and action.fid == event.fid and action.action == event.action
