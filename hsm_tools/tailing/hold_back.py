"""Holding events back until their paths are known, in their order, and never for longer than a bounded time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from hsm_tools.fid_paths.paths import PENDING, Pending

Item = TypeVar("Item")


class HoldBack(Generic[Item]):
    """A queue of items, each of which leaves with its path, or without once it has waited `longest_s`.

    `ask` begins to look for the path of an item, `answer` says what has come of it. Beyond `capacity` the oldest leave
    at once, so that reading never waits for paths.
    """

    def __init__(
        self,
        ask: Callable[[Item], None],
        answer: Callable[[Item], str | Pending | None],
        longest_s: float,
        capacity: float,
    ) -> None:
        self._ask = ask
        self._answer = answer
        self._longest_s = longest_s
        self._capacity = capacity
        self._held: deque[tuple[Item, float]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def due_s(self) -> float | None:
        """When the next one leaves at the latest, on the clock of `put`; None if none is held."""
        return self._held[0][1] if self._held else None

    def put(self, items: list[Item], now_s: float) -> None:
        """Add items, and have their paths asked for."""
        due_s = now_s + self._longest_s
        for item in items:
            self._ask(item)
            self._held.append((item, due_s))

    def leaving(self, now_s: float) -> Iterator[tuple[Item, str | None]]:
        """Take out what need not wait any longer, each with its path, None where that is not known."""
        held = self._held
        while held:
            item, due_s = held[0]
            path = self._answer(item)
            if path is PENDING:
                if now_s < due_s and len(held) <= self._capacity:
                    return
                path = None
            held.popleft()
            yield item, path
