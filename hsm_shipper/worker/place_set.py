"""Places of a listing: in order, as the kernel prints them, they are packed. Pure: no I/O, no clock."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence, Set
from heapq import merge


class PlaceSet(Set[int]):
    """A set of packed places: 8 bytes for each that is added in order, 60 and more for others.

    A purge of the coordinator changes every line of a listing, and then ends every action.
    """

    def __init__(self, places: Iterable[int] = ()) -> None:
        self._ascending = array("Q")
        self._others: set[int] = set()
        for place in places:
            self.add(place)

    def __len__(self) -> int:
        return len(self._ascending) + len(self._others)

    def __iter__(self) -> Iterator[int]:
        """In ascending order."""
        return merge(self._ascending, sorted(self._others)) if self._others else iter(self._ascending)

    def __contains__(self, place: object) -> bool:
        if not isinstance(place, int):
            return False
        at = bisect_left(self._ascending, place)
        return (at < len(self._ascending) and self._ascending[at] == place) or place in self._others

    def add_beyond(self, places: Sequence[int]) -> bool:
        """Add places, each beyond the one before it, if they lie beyond all that are there; whether they do."""
        if self._others or (self._ascending and places[0] <= self._ascending[-1]):
            return False
        self._ascending.extend(places)
        return True

    def add(self, place: int) -> bool:
        """Add a place; whether it was not there before."""
        if place in self:
            return False
        if self._ascending and place < self._ascending[-1]:
            self._others.add(place)
        else:
            self._ascending.append(place)
        return True
