"""Places that the last complete reading missed without being believed: the next one may confirm them. Pure."""

from __future__ import annotations

from collections.abc import Set


class Unconfirmed:
    """Them, in memory and in the state file, which may be behind: what was seen since must not come back from it."""

    def __init__(self) -> None:
        self.places: Set[int] = set()
        self._stored: Set[int] = set()
        self._at_most: Set[int] | None = None  # what readings missed that the state file could not be told of

    def load(self, stored: Set[int]) -> None:
        """The state file holds these."""
        self._stored = stored
        self.places = stored if self._at_most is None else stored & self._at_most

    def narrow(self, missed: Set[int]) -> None:
        """A reading has missed these, and seen all else."""
        self._at_most = missed if self._at_most is None else self._at_most & missed
        self.places = self.places & missed

    def is_stored(self, missed: Set[int]) -> bool:
        """Whether the state file holds just these."""
        return missed == self._stored

    def store(self, missed: Set[int]) -> None:
        """By now the state file holds these, as the last complete reading missed them."""
        self.places = self._stored = missed
        self._at_most = None
