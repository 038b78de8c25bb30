"""Which fault comes next: every kind as often as its weight says, and each is looked at while it lasts."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from tests.torture.fault import Kind, Signs

# Of the faults behind the first pass, in which each kind is held once on one of the sites.
_HELD_SHARE = 0.02


class Card(NamedTuple):
    """A fault to do; one that is held lasts until it has shown."""

    kind: Kind
    is_held: bool


class Deck:
    """The cards of the site `number`, of those that ship to `brokers`; with `hold_all` all are held, each kind once."""

    def __init__(
        self,
        kinds: Sequence[Kind],
        brokers: Sequence[str],
        number: int,
        rng: random.Random,
        *,
        hold_all: bool = False,
    ) -> None:
        self._kinds = [kind for kind in kinds if brokers[number] in kind.on]
        self._rng = rng
        self._holds_all = hold_all
        held = [Card(kind, True) for kind in self._kinds if number == _who_holds(kind, kinds.index(kind), brokers)]
        cards = deque(() if hold_all else self._pass())
        rng.shuffle(held)
        self._cards: deque[Card] = deque()
        while held:  # early, and not one behind the other: they take long, and the run may be short
            self._cards += [held.pop(), *(cards.popleft() for _ in range(min(2, len(cards))))]
        self._cards += cards

    def next(self) -> Card:
        """The next one."""
        if not self._cards:
            self._cards += self._pass()
        card = self._cards.popleft()
        return card._replace(is_held=card.is_held or (has_signs(card.kind) and self._rng.random() < _HELD_SHARE))

    def put_back(self, card: Card) -> None:
        """It was not possible just now: later."""
        self._cards.insert(self._rng.randint(0, len(self._cards)), card)

    def _pass(self) -> list[Card]:
        all_held = self._holds_all
        cards = [Card(kind, all_held) for kind in self._kinds for _ in range(1 if all_held else kind.weight)]
        self._rng.shuffle(cards)
        return cards


def has_signs(kind: Kind) -> bool:
    """Whether there is anything to look for."""
    return kind.signs != Signs()


def _who_holds(kind: Kind, at: int, brokers: Sequence[str]) -> int | None:
    able = [number for number, broker in enumerate(brokers) if broker in kind.on]
    return able[at % len(able)] if able and has_signs(kind) else None
