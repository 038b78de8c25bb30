"""What a reading of the actions file says, against what the stream is known to say. Pure: no I/O, no clock.

`Known` is the memory of a worker: the MD5 of every live line. `Survey` runs a reading past it and keeps what is new;
`judge` decides which of the actions that the reading missed may be believed gone.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from hashlib import md5
from itertools import islice, repeat
from operator import lt
from typing import NamedTuple

from hsm_shipper.contract.kernel_line import ActionRecord, parse_line, readable_place

# More cached places than this beyond the last line read: the end of the list may have been cut off.
LOST_END = 10
# A listing of so many lines is looked at for its order in any case: that takes no time.
_SHORT_LINES = 1_000
# Held lines of some 650 bytes each, parsed; more than that are packed.
HELD_OPEN_MAX = 10_000
_SEEN = 1
_NO_SLOT = 0  # marked like any other, so that the one loop over every line of the list needs no branch

# A line's MD5. Where the line is to be looked at whatever it is (its entry does not tell its hash, or it is to be
# refreshed), the packed place: never equal to any bytes.
Key = bytes | int


class Known:
    """The live lines by MD5, some 160 bytes each: 350,000 have to fit beside a metadata server's real work.

    Each has a slot; `begin` starts a poll with every slot unseen.
    """

    def __init__(self, actions: Iterable[tuple[int, bytes | None]] = (), marked: Container[int] = ()) -> None:
        """`actions` are packed places and MD5s; those in the `marked` places are to be looked at whatever they are."""
        self.slots: dict[Key, int] = {}
        # A stream may say of two places that they hold the same line (somebody else's entry). The line's MD5 then
        # tells of neither of them that it is there.
        self._ambiguous: set[bytes] = set()
        self._places = array("Q", [0])
        self.place_of = self._places.__getitem__
        """The packed place of a slot."""
        self._free: list[int] = []
        self.seen = bytearray([_SEEN])
        looked_at = []
        for place, digest in actions:
            if digest is not None and place in marked:
                looked_at.append(digest)
                digest = None
            self.add(place, digest)
        for digest in looked_at:
            if digest in self.slots:
                self._share(digest)

    def __len__(self) -> int:
        return len(self.slots)

    def begin(self) -> None:
        """Forget what was seen."""
        self.seen = bytearray(len(self._places))
        self.seen[_NO_SLOT] = _SEEN
        for slot in self._free:
            self.seen[slot] = _SEEN

    def add(self, place: int, digest: bytes | None) -> None:
        """Know the action in `place`; it counts as seen."""
        if self._free:
            slot = self._free.pop()
            self._places[slot] = place
            self.seen[slot] = _SEEN
        else:
            slot = len(self._places)
            self._places.append(place)
            self.seen.append(_SEEN)
        self.slots[self._new_key(place, digest)] = slot

    def drop(self, place: int, digest: bytes | None) -> None:
        """Forget the action in `place`, whose line has `digest`."""
        slot = self.slots.pop(self._key(place, digest))
        self.seen[slot] = _SEEN
        self._free.append(slot)

    def is_seen(self, place: int, digest: bytes | None) -> bool:
        """Whether the action in `place` was seen since `begin`."""
        slot = self.slots.get(digest) if digest is not None else None
        if slot is None or self._places[slot] != place:
            slot = self.slots[place]
        return self.seen[slot] == _SEEN

    def _new_key(self, place: int, digest: bytes | None) -> Key:
        if digest is None or digest in self._ambiguous:
            return place
        if digest in self.slots:
            self._share(digest)
            return place
        return digest

    def _share(self, digest: bytes) -> None:
        self._ambiguous.add(digest)
        slot = self.slots.pop(digest)
        self.slots[self._places[slot]] = slot

    def _key(self, place: int, digest: bytes | None) -> Key:
        """What the action in `place` is known by: its line's MD5 may be that of another place, and be told or not."""
        slot = None if digest is None else self.slots.get(digest)
        return place if digest is None or slot is None or self._places[slot] != place else digest

    def unseen(self) -> set[int]:
        """Packed places of every action whose line was not seen since `begin`."""
        places = set()
        slot = self.seen.find(0)
        while slot >= 0:
            places.add(self._places[slot])
            slot = self.seen.find(0, slot + 1)
        return places


class NewLine(NamedTuple):
    """A line whose MD5 is not known, with its parse."""

    line: bytes
    digest: bytes
    record: ActionRecord


class HeldLines:
    """New lines kept until the end of the file; many of them packed: a purge turns every line of a long list new."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open: list[NewLine] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, lines: Iterable[NewLine]) -> None:
        """Keep some more."""
        before = len(self._open)
        self._open.extend(lines)
        self._count += len(self._open) - before
        if len(self._open) >= HELD_OPEN_MAX:
            self._blocks.append(zlib.compress(b"\n".join(new.line for new in self._open), level=1))
            self._open = []

    def __iter__(self) -> Iterator[NewLine]:
        for block in self._blocks:
            yield from map(_parsed, zlib.decompress(block).split(b"\n"))
        yield from self._open


def _parsed(line: bytes) -> NewLine:
    record = parse_line(line)
    assert record is not None, "only what was understood is held"
    return NewLine(line, md5(line, usedforsecurity=False).digest(), record)


class Survey:
    """One reading against what is known: which lines are new, which places are still there."""

    def __init__(self, known: Known, listings_are_sorted: bool = True) -> None:
        """`listings_are_sorted` is what the survey before this one says."""
        self._known = known
        self._last_line: bytes | None = None
        # What tells the order of the lines: the slots of each chunk, and the places of the lines without one.
        self._slots: list[list[int]] = []
        self._unknown_places = array("Q")
        self.listings_are_sorted = listings_are_sorted
        """Whether listings are sorted by place, as the kernel's are, as far as `is_sorted` was asked."""
        self.known_at_begin = len(known)
        self.lines = 0
        self.not_understood = 0
        self.example: bytes | None = None
        """The first line that was not understood."""
        self._present: set[int] = set()  # places that hold something new, or something not understood
        known.begin()

    def take(self, lines: list[bytes]) -> list[NewLine]:
        """Run some lines of the listing past what is known; return those that are new and understood."""
        new = []
        places = []
        for line, digest in self._unknown(lines):
            record = parse_line(line)
            if record is None:
                self.puzzle(line)
                places.append(readable_place(line) or 0)
            else:
                new.append(NewLine(line, digest, record))
                places.append(record.place)
        if len(places) > 2 and len(places) == len(lines) and _ascend(places):
            # Where none of the lines is known, the two ends tell as much: so it is in the first reading of a long list.
            places = [places[0], places[-1]]
            self._slots[-1] = [_NO_SLOT] * 2
        self._unknown_places.extend(places)
        return new

    def claim(self, lines: Iterable[NewLine]) -> list[NewLine]:
        """Mark the places of new lines as taken; return the lines, but for further ones of a place that was.

        Those are not understood: the kernel gives each record one place.
        """
        claimed = []
        for new in lines:
            if new.record.place in self._present:
                self.puzzle(new.line)
            else:
                self._present.add(new.record.place)
                claimed.append(new)
        return claimed

    def _unknown(self, lines: list[bytes]) -> list[tuple[bytes, bytes]]:
        self.lines += len(lines)
        if lines:
            self._last_line = lines[-1]
        digests = [md5(line, usedforsecurity=False).digest() for line in lines]
        slots = list(map(self._known.slots.get, digests, repeat(_NO_SLOT)))
        seen = self._known.seen
        for slot in slots:
            seen[slot] = _SEEN
        unknown = []
        index = -1
        for _ in range(slots.count(_NO_SLOT)):
            index = slots.index(_NO_SLOT, index + 1)
            unknown.append((lines[index], digests[index]))
        self._slots.append(slots)
        return unknown

    def puzzle(self, line: bytes) -> None:
        """Count a line that is not understood; where its place can be read, something is there."""
        self.not_understood += 1
        if self.example is None:
            self.example = line
        place = readable_place(line)
        if place is not None:
            self._present.add(place)

    def last_place(self) -> int:
        """Packed place of the last line read, -1 without one: nothing lies beyond it in a listing that is sorted."""
        if self._last_line is None:
            return -1
        record = parse_line(self._last_line)
        place = record.place if record is not None else readable_place(self._last_line)
        return -1 if place is None else place

    def is_sorted(self) -> bool:
        """Whether this is a listing that is sorted by place: a short one may be so by chance, if others were not.

        Looks at every line, which takes long for a long one.
        """
        if self.listings_are_sorted or self.lines > LOST_END:
            self.listings_are_sorted = self._ascends()
        return self.listings_are_sorted

    def _ascends(self) -> bool:
        place_of = self._known.place_of
        unknown = iter(self._unknown_places)
        last = -1
        for slots in filter(None, self._slots):
            places = list(map(place_of, slots))
            if _NO_SLOT in slots:
                places = [place if slot else next(unknown) for slot, place in zip(slots, places, strict=True)]
            if places[0] <= last or not _ascend(places):
                return False
            last = places[-1]
        return True

    def missing(self) -> set[int]:
        """Places of known actions whose place the listing does not hold."""
        return self._known.unseen() - self._present


def _ascend(places: list[int]) -> bool:
    return all(map(lt, places, islice(places, 1, None)))


@dataclass(frozen=True)
class Verdict:
    """Which missing actions are believed gone, and which ones the next complete reading decides on."""

    purge: set[int]
    missed: set[int]
    doubt: str | None
    """Why not all of the missing ones are believed gone."""


def judge(survey: Survey, missed_before: set[int], *, fault: str | None, coordinator: str | None) -> Verdict:
    """Decide on what a reading missed.

    `fault` says why the reading is incomplete; `coordinator` is `hsm_control` where it is init or stopping: no such
    reading is proof that anything ended. A complete one that looks wrong purges only what the complete one before
    missed as well: a list that shrinks step by step settles, and so does one with a line nobody understands. The same
    goes for a listing that is not sorted by place (a coordinator outside the kernel may print its queue, and cut it
    short when its time is up): there is no telling whether its end was cut off.
    """
    if survey.lines <= _SHORT_LINES:
        survey.is_sorted()  # to know it when a later one, still shorter, has lost something
    missing = survey.missing()
    doubt = _no_proof(survey, fault, coordinator)
    if doubt is not None:
        return Verdict(set(), missed_before & missing, doubt)
    doubt = _suspicion(survey, missing)
    if doubt is None:
        return Verdict(missing, set(), None)
    purge = missing & missed_before
    return Verdict(purge, missing - purge, doubt)


def _no_proof(survey: Survey, fault: str | None, coordinator: str | None) -> str | None:
    if fault is not None:
        return f"the reading is incomplete: {fault}"
    if coordinator is not None:
        return f"the coordinator is in state {coordinator!r}"
    if 2 * survey.not_understood > survey.lines:
        return f"{survey.not_understood} of {survey.lines} lines are not understood"
    return None


def _suspicion(survey: Survey, missing: set[int]) -> str | None:
    if not missing:
        return None
    if 2 * len(missing) > survey.known_at_begin:
        return f"{len(missing)} of {survey.known_at_begin} live actions are missing"
    if survey.not_understood:
        return f"{survey.not_understood} of {survey.lines} lines are not understood"
    if not survey.is_sorted():
        return "the listing is not sorted by place, so its end may be missing"
    last_place = survey.last_place()
    beyond = sum(place > last_place for place in missing)
    if beyond > LOST_END:
        return f"the last {beyond} live actions are missing"
    return None
