"""What an outage of Redis cost: states of actions that came and went, and found no room in the outbox. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any


class MissedStates:
    """Counts line states that a poll saw, that could not be shipped, and that were gone at a later poll."""

    def __init__(self) -> None:
        self._waiting: set[bytes] = set()
        self.polls = 0
        """Polls that could not ship."""
        self.sent = 0
        """Events that waited, and are in the stream by now."""
        self.states_missed = 0
        """States seen during this outage that are in no stream and never will be."""
        self._told = 0

    def __bool__(self) -> bool:
        return self.polls > 0 or self.sent > 0 or self.states_missed > 0 or bool(self._waiting)

    def failed(self, unshipped: set[bytes], shipped: Container[Any], *, complete: bool) -> None:
        """A poll saw these new lines (MD5 each), could not ship them, and they do not wait in the outbox.

        `shipped` are lines that the stream has, or gets from there.
        """
        self.polls += 1
        if complete:
            self._count_gone(unshipped, shipped)
            self._waiting = unshipped
        else:
            self._waiting |= unshipped

    def take_new(self) -> int:
        """Those that were missed since this was asked for: an outage may outlast the worker."""
        new, self._told = self.states_missed - self._told, self.states_missed
        return new

    def dropped(self, states: int, last: Iterable[bytes]) -> None:
        """What waited is dropped: so many states came and went in it, and it ended with these (MD5 each)."""
        self.states_missed += states
        self._waiting.update(last)

    def delivered(self, shipped: Container[Any]) -> None:
        """What the stream turned out to hold was not missed: its reply was lost, or another host shipped it."""
        self._waiting = {digest for digest in self._waiting if digest not in shipped}

    def ended(self, shipped: Container[Any]) -> None:
        """The stream is in step with the file again: nothing more is missed."""
        self._count_gone(set(), shipped)
        self._waiting = set()

    def _count_gone(self, unshipped: set[bytes], shipped: Container[Any]) -> None:
        self.states_missed += sum(1 for d in self._waiting if d not in unshipped and d not in shipped)
