"""The fold for tools that replay long streams: the same rules in half the time, and the events counted on the way.

What is decoded of an entry that says everything (`contract.whole`) is what stands for its live action. Whatever says
less, an earlier shipper's above all, goes the long way through `contract.event` and `contract.fold`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from sys import intern
from typing import ClassVar, cast

import msgspec

from hsm_shipper.contract.event import NEW, PURGED, UPDATE, Event, decode, digest_from_hex
from hsm_shipper.contract.fold import LiveActions
from hsm_shipper.contract.kernel_line import pack_place
from hsm_shipper.contract.live_action import LiveAction
from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.contract.whole import NOT_WHOLE, WholeEnd, WholeState
from hsm_shipper.errors import MalformedEvent
from hsm_shipper.stream.page_reader import Entry
from hsm_tools.live_state.tally import REFRESH, TIMED, Tally, Told, told_by
from hsm_tools.record import archive_id, archive_text

_ARCHIVES_MAX = 1000


class LeanAction(LiveAction, gc=False):
    """A live action, and the archive that it is for."""

    archive_id: int | None = None
    """None where the entry has no `raw` to tell it."""


class _State(WholeState, gc=False):
    """A NEW or UPDATE, and the `LeanAction` that it makes, but for its class."""

    kind: ClassVar[str]
    digest: ClassVar[None] = None

    raw: str | None = None
    # Not of the event: no shipper writes such names.
    entry: bytes = msgspec.field(default=b"", name="<entry>")
    archive_id: int | None = msgspec.field(default=None, name="<archive_id>")

    @property
    def place(self) -> int:
        """The packed place."""
        return pack_place(self.cat_idx, self.rec_idx)

    @property
    def entry_id(self) -> str:
        """The stream entry that holds this state."""
        return self.entry.decode()

    @property
    def action_key(self) -> str:
        """`fid:ACTION`."""
        return f"{self.fid}:{self.action}"


class _New(_State, gc=False, tag_field="event_type", tag=NEW):
    kind = NEW


class _Update(_State, gc=False, tag_field="event_type", tag=UPDATE):
    kind = UPDATE


class _Purged(WholeEnd, gc=False, tag_field="event_type", tag=PURGED):
    pass


_decode_whole = msgspec.json.Decoder(_New | _Update | _Purged).decode


def _decode_nothing(_data: bytes) -> None:
    return None


class _ArchiveIds(dict[str, int | None]):
    """Archive ids by their texts: there are few of them, but in streams full of nonsense."""

    def __missing__(self, text: str) -> int | None:
        found = archive_id(text)
        if found is not None and len(self) < _ARCHIVES_MAX:
            self[text] = found
        return found


class LeanActions(LiveActions):
    """The live actions of one stream, in any order, whose events are counted in a tally.

    Those that the tally has counted before are not counted again.
    """

    def __init__(self, tally: Tally, digests: bool) -> None:
        super().__init__(digests)
        self._tally = tally
        self._counted_to = pack_id(tally.last)
        self._archive_ids = _ArchiveIds()

    def __iter__(self) -> Iterator[LeanAction]:
        return iter(cast(Iterable[LeanAction], self.by_place.values()))

    def fold_page(self, page: list[Entry]) -> list[bytes]:
        """Fold in and count the next entries; returns the ids of those that are no events."""
        known_malformed: list[bytes] = []
        if self._counted_to:
            known = [entry for entry in page if pack_id(entry[0]) <= self._counted_to]
            known_malformed = self._fold(known, defaultdict(int))
            page = page[len(known) :]
            if page:
                self._counted_to = 0
        # Counted when the page is done: of one that cannot be folded to its end, nothing is.
        told: defaultdict[Told, int] = defaultdict(int)
        malformed = self._fold(page, told)
        self._tally.add(page, told, len(malformed))
        return known_malformed + malformed

    def _fold(self, page: list[Entry], told: defaultdict[Told, int]) -> list[bytes]:
        """Every step of this loop is taken a million times: the common case by itself, without calls."""
        malformed = []
        by_place = self.by_place
        archive_ids = self._archive_ids
        decode_whole = _decode_nothing if self._is_of_earlier_shipper else _decode_whole
        for entry_id, data in page:
            try:
                text = data or b""
                event = decode_whole(text)
                if not text.isascii():
                    text.decode()  # also what is skipped must be text
                if event is not None and event.hash is not None:
                    digest_from_hex(event.hash)
                    event.hash = None  # needs no room in a live action
            except NOT_WHOLE:
                event = None
            if event is None or event.__class__ is _Purged:
                what = self._count_end(event) or self._count_anything(entry_id, data)
                decode_whole = _decode_nothing if self._is_of_earlier_shipper else _decode_whole
                if what is None:
                    malformed.append(entry_id)
                    continue
            else:
                event.entry = entry_id
                event.action = action = intern(event.action)
                event.status = status = intern(event.status)
                event.archive_id = None if event.raw is None else archive_ids[archive_text(event.raw)]
                event.raw = None  # it has told what is needed of it
                by_place[event.cat_idx << 32 | event.rec_idx] = event
                if event.refresh:
                    what = (REFRESH, action, status, None)
                elif status in TIMED and event.status_since == event.timestamp:
                    what = (event.kind, action, status, event.status_since - event.first_seen)
                else:
                    what = (event.kind, action, status, None)
            told[what] += 1
        return malformed

    @property
    def _is_of_earlier_shipper(self) -> bool:
        """Whether only the rules know what to do with the events of this stream."""
        return self.has_digests or self._places_by_key is not None

    def _count_end(self, purged: _Purged | None) -> Told | None:
        """Fold in a PURGED if it and its occupant say enough for that; None if not."""
        if purged is None:
            return None
        place = pack_place(purged.cat_idx, purged.rec_idx)
        occupant = self.by_place.get(place)
        if occupant is not None:
            if occupant.cookie is None:
                return None
            if occupant.cookie == purged.cookie:
                del self.by_place[place]
        return (PURGED, intern(purged.action), intern(purged.last_status), None)

    def _count_anything(self, entry_id: bytes, data: bytes | None) -> Told | None:
        """Fold in any entry by the rules; None if it is no event."""
        try:
            event = decode(data)
        except MalformedEvent:
            return None
        last_status = self._last_status(event)
        self.apply(entry_id, event)
        if event.place is not None and event.event_type != PURGED:
            other = LeanAction(*msgspec.structs.astuple(self.by_place[event.place]))
            other.archive_id = None if event.raw is None else self._archive_ids[archive_text(event.raw)]
            self.by_place[event.place] = other
        event.last_status = event.last_status or last_status
        return told_by(event)

    def _last_status(self, event: Event) -> str | None:
        """The status of what a PURGED ends, as far as its place tells."""
        occupant = None if event.place is None else self.by_place.get(event.place)
        return None if occupant is None else occupant.status
