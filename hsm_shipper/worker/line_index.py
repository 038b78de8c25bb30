"""The lines that a stream is known to say are live, by their MD5: the memory of a worker. Pure: no I/O, no clock."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable
from itertools import repeat

_SEEN = 1

# A line's MD5. Where the line is to be looked at whatever it is (its entry does not tell its hash, or it is to be
# refreshed), the packed place: never equal to any bytes.
_Key = bytes | int


class LineIndex:
    """The live lines by MD5, some 160 bytes each: 350,000 have to fit beside a metadata server's real work.

    Each has a slot, a whole number; `begin` starts a poll with every slot unseen.
    """

    NO_SLOT = 0
    """The slot of a line that is not known. It counts as seen, so that the loop over every line has no exception."""

    def __init__(self, actions: Iterable[tuple[int, bytes | None]] = (), look_at: Container[int] = ()) -> None:
        """`actions` are packed places and MD5s; those in the places `look_at` are to be looked at whatever they are."""
        self._slots: dict[_Key, int] = {}
        # A stream may say of two places that they hold the same line (somebody else's entry). The line's MD5 then
        # tells of neither of them that it is there.
        self._ambiguous: set[bytes] = set()
        self._places = array("Q", [0])
        self._free: list[int] = []
        self._seen = bytearray([_SEEN])
        looked_at = []
        for place, digest in actions:
            if digest is not None and place in look_at:
                looked_at.append(digest)
                digest = None
            self.add(place, digest)
        for digest in looked_at:
            if digest in self._slots:
                self._share(digest)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, digest: object) -> bool:
        """Whether a line with this MD5 is known, and needs no look."""
        return digest in self._slots

    def begin(self) -> None:
        """Forget what was seen."""
        self._seen = bytearray(len(self._places))
        self._seen[self.NO_SLOT] = _SEEN
        for slot in self._free:
            self._seen[slot] = _SEEN

    def see(self, digests: Iterable[bytes]) -> list[int]:
        """The slots of lines by their MD5, `NO_SLOT` for those that are not known; the others are seen from now on."""
        slots = list(map(self._slots.get, digests, repeat(self.NO_SLOT)))
        seen = self._seen
        for slot in slots:
            seen[slot] = _SEEN
        return slots

    def places(self, slots: Iterable[int]) -> list[int]:
        """The packed places of slots; 0 for `NO_SLOT`."""
        return list(map(self._places.__getitem__, slots))

    def add(self, place: int, digest: bytes | None) -> None:
        """Know the action in `place`; it counts as seen."""
        if self._free:
            slot = self._free.pop()
            self._places[slot] = place
            self._seen[slot] = _SEEN
        else:
            slot = len(self._places)
            self._places.append(place)
            self._seen.append(_SEEN)
        self._slots[self._new_key(place, digest)] = slot

    def drop(self, place: int, digest: bytes | None) -> None:
        """Forget the action in `place`, whose line has `digest`."""
        slot = self._slots.pop(self._key(place, digest))
        self._seen[slot] = _SEEN
        self._free.append(slot)

    def is_seen(self, place: int, digest: bytes | None) -> bool:
        """Whether the action in `place` was seen since `begin`."""
        slot = self._slots.get(digest) if digest is not None else None
        if slot is None or self._places[slot] != place:
            slot = self._slots[place]
        return self._seen[slot] == _SEEN

    def unseen(self) -> set[int]:
        """Packed places of every action whose line was not seen since `begin`."""
        places = set()
        slot = self._seen.find(0)
        while slot >= 0:
            places.add(self._places[slot])
            slot = self._seen.find(0, slot + 1)
        return places

    def _new_key(self, place: int, digest: bytes | None) -> _Key:
        if digest is None or digest in self._ambiguous:
            return place
        if digest in self._slots:
            self._share(digest)
            return place
        return digest

    def _share(self, digest: bytes) -> None:
        self._ambiguous.add(digest)
        slot = self._slots.pop(digest)
        self._slots[self._places[slot]] = slot

    def _key(self, place: int, digest: bytes | None) -> _Key:
        """What the action in `place` is known by: its line's MD5 may be that of another place, and be told or not."""
        slot = None if digest is None else self._slots.get(digest)
        return place if digest is None or slot is None or self._places[slot] != place else digest
