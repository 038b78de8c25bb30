"""What a reading of the actions file says, against what the stream is known to say. Pure: no I/O, no clock."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator
from hashlib import md5
from itertools import islice, pairwise
from operator import lt
from typing import NamedTuple

from hsm_shipper.contract.action_state import UNKNOWN_ENTRY, ActionState
from hsm_shipper.contract.kernel_line import ActionRecord, parse_line, readable_place
from hsm_shipper.contract.stream_ids import milliseconds_of, pack_id
from hsm_shipper.worker.line_index import LineIndex

# A listing of so few lines may be sorted by chance.
FEW_LINES = 10
# Held lines of some 650 bytes each, parsed; more than that are packed.
HELD_OPEN_MAX = 10_000


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


def were_sorted(live: Iterable[ActionState]) -> bool:
    """Whether these live actions come from listings that were sorted by place, as far as their entries tell.

    What one script appends has one millisecond, and the order of its lines in the listing.
    """
    told = sorted((pack_id(action.entry), action.place) for action in live if action.entry != UNKNOWN_ENTRY)
    return all(
        place < next_place or milliseconds_of(entry) != milliseconds_of(next_entry)
        for (entry, place), (next_entry, next_place) in pairwise(told)
    )


class SnapshotDiff:
    """One reading against what is known: which lines are new, which places are still there."""

    def __init__(self, index: LineIndex, listings_are_sorted: bool = True) -> None:
        """`listings_are_sorted` is what the one before this says."""
        self._index = index
        self._last_line: bytes | None = None
        # What tells the order of the lines: the slots of each chunk, and the places of the lines without one.
        self._slots: list[list[int]] = []
        self._unknown_places = array("Q")
        self.listings_are_sorted = listings_are_sorted
        """Whether listings are sorted by place, as the kernel's are, as far as `is_sorted` was asked."""
        self.known_at_begin = len(index)
        self.lines = 0
        self.not_understood = 0
        self.example: bytes | None = None
        """The first line that was not understood."""
        self._present: set[int] = set()  # places that hold something new, or something not understood
        index.begin()

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
            self._slots[-1] = [LineIndex.NO_SLOT] * 2
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
        slots = self._index.see(digests)
        unknown = []
        at = -1
        for _ in range(slots.count(LineIndex.NO_SLOT)):
            at = slots.index(LineIndex.NO_SLOT, at + 1)
            unknown.append((lines[at], digests[at]))
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
        if self.listings_are_sorted or self.lines > FEW_LINES:
            self.listings_are_sorted = self._ascends()
        return self.listings_are_sorted

    def _ascends(self) -> bool:
        unknown = iter(self._unknown_places)
        last = -1
        for slots in filter(None, self._slots):
            places = self._index.places(slots)
            if LineIndex.NO_SLOT in slots:
                places = [place if slot else next(unknown) for slot, place in zip(slots, places, strict=True)]
            if places[0] <= last or not _ascend(places):
                return False
            last = places[-1]
        return True

    def missing(self) -> set[int]:
        """Places of known actions whose place the listing does not hold."""
        return self._index.unseen() - self._present


def _ascend(places: list[int]) -> bool:
    return all(map(lt, places, islice(places, 1, None)))
