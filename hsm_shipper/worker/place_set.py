"""Places of a listing: in order, as the kernel prints them, they are packed. Pure: no I/O, no clock."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence


class PlaceSet:
    """A set of packed places: 8 bytes for each that is added in order, 60 and more for others.

    A purge of the coordinator changes every line of a listing.
    """

    def __init__(self) -> None:
        self._ascending = array("Q")
        self._others: set[int] = set()

    def __contains__(self, place: object) -> bool:
        if not isinstance(place, int):
            return False
        at = bisect_left(self._ascending, place)
        return (at < len(self._ascending) and self._ascending[at] == place) or place in self._others

    def add_beyond(self, places: Sequence[int]) -> bool:
        """Add places in ascending order, if they lie beyond all that are there; whether they do."""
        if self._others or (self._ascending and places[0] <= self._ascending[-1]):
            return False
        self._ascending.extend(places)
        return True

    def add(self, place: int) -> bool:
        """Add a place; whether it was not there before."""
        if not self._ascending or place > self._ascending[-1]:
            self._ascending.append(place)
            return place not in self._others
        is_new = place not in self
        if is_new:
            self._others.add(place)
        return is_new
