"""What a poll makes of a listing, line by line: a model that is simple and slow, to hold the worker's own against."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hsm_shipper.contract.kernel_line import parse_line, readable_place
from tests.support.core import digest


class Known:
    """The live actions of a stream by packed place."""

    def __init__(self) -> None:
        self.rows: dict[int, bytes | None] = {}
        """The MD5 of the line in each place, as the state file has it; None where the stream does not tell it."""
        self.look_at: set[int] = set()
        """Places that are to be looked at, whatever is known of them."""
        self.shared: set[bytes] = set()
        """MD5s that were told of two places at a time: they tell of neither that its line is there."""

    def add(self, place: int, told: bytes | None, *, look_at: bool = False) -> None:
        """An action is live from now on."""
        if told is not None and not look_at and told in self.by_digest(with_shared=True):
            self.shared.add(told)
        self.rows[place] = told
        if look_at:
            self.look_at.add(place)

    def drop(self, place: int) -> None:
        """An action is live no more."""
        del self.rows[place]
        self.look_at.discard(place)

    def by_digest(self, *, with_shared: bool = False) -> dict[bytes, int]:
        """The places that are known by their line."""
        return {
            told: place
            for place, told in self.rows.items()
            if told is not None and place not in self.look_at and (with_shared or told not in self.shared)
        }


class LineByLine:
    """One listing against what is known."""

    def __init__(self, known: Known, listing: Iterable[bytes]) -> None:
        self.lines = 0
        self.new: list[bytes] = []
        """Lines that are not known and understood, but for further ones of the same place."""
        self.not_understood = 0
        self.example: bytes | None = None
        self.last_place = -1
        self._present: set[int] = set()
        self._places: list[int] = []
        by_digest = known.by_digest()
        seen = set()
        claims = []
        for line in listing:
            self.lines += 1
            record = parse_line(line)
            place = record.place if record is not None else readable_place(line)
            self.last_place = -1 if place is None else place
            known_place = by_digest.get(digest(line))
            if known_place is not None:
                seen.add(known_place)
            elif record is None:
                self._puzzle(line)
            else:
                claims.append((record.place, line))
            self._places.append((place or 0) if known_place is None else known_place)
        for place, line in claims:
            if place in self._present:
                self._puzzle(line)
            else:
                self._present.add(place)
                self.new.append(line)
        self.seen = seen
        """Known actions whose very line is there."""
        self.missing = known.rows.keys() - seen - self._present

    @property
    def is_sorted(self) -> bool:
        """Whether the places of all lines only grow."""
        return all(one < next_one for one, next_one in pairwise([-1, *self._places]))

    def _puzzle(self, line: bytes) -> None:
        self.not_understood += 1
        if self.example is None:
            self.example = line
        place = readable_place(line)
        if place is not None:
            self._present.add(place)
