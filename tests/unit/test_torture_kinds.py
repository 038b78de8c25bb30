"""What the faults of `make torture` are to show is there, each is looked at, and what is wrong is told."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.torture.brokers import CLUSTER, SENTINELS, SERVER, brokers_of
from tests.torture.deck import Deck, has_signs
from tests.torture.fault import Kind
from tests.torture.faults import KINDS
from tests.torture.prometheus import expressions, metric_of
from tests.torture.tables import Outcome, signs_table, table

ROOT = Path(__file__).parents[2]
EVERY_BROKER = {SERVER, SENTINELS, CLUSTER}


def test_what_shows_a_fault_exists() -> None:
    metrics = (ROOT / "docs/metrics.md").read_text()
    named = {alert for kind in KINDS for alert in kind.signs.alerts}
    assert named and named <= expressions().keys()
    for alert in named:
        assert metric_of(alert) in metrics


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_patterns_are_patterns(kind: Kind) -> None:
    signs = kind.signs
    assert all(re.compile(part) for part in (signs.line, signs.over, signs.status, signs.check, signs.top))


def test_every_kind_has_a_name_of_its_own_and_a_row() -> None:
    names = [kind.name for kind in KINDS]
    assert len(names) == len(set(names)) >= 40
    outcomes = {name: Outcome(times=2, seconds=[1.0, 3.0], held=2, unseen=1) for name in names}
    assert all(f"| {name} | 2 | 0 | 0 | 0 | 2.0 | 3.0 |" in table(outcomes) for name in names)
    assert f"| **all** | {2 * len(names)} | 0 | 0 | 0 |" in table(outcomes)
    assert signs_table(outcomes).count("| 1 of 2 |") == sum(map(has_signs, KINDS))


def test_what_is_lost_or_does_not_show_is_bad() -> None:
    assert not Outcome(times=1).is_bad
    wrong = (Outcome(lost=1), Outcome(duplicated=1), Outcome(false=1), Outcome(tracebacks=1), Outcome(unseen=1))
    assert all(outcome.is_bad for outcome in wrong)


def test_outcomes_add_up() -> None:
    both = Outcome(times=1, seconds=[1.0])
    both.add(Outcome(times=2, unseen=1, seconds=[2.0]))
    assert both == Outcome(times=3, unseen=1, seconds=[1.0, 2.0])


def test_every_kind_is_dealt_and_held_once_by_one_site() -> None:
    brokers = brokers_of(10, EVERY_BROKER)
    assert {*brokers} == EVERY_BROKER
    held: Counter[str] = Counter()
    for number, broker in enumerate(brokers):
        kinds = [kind for kind in KINDS if broker in kind.on]
        deck = Deck(KINDS, brokers, number, random.Random(number))
        cards = [*deck._cards]  # the first pass, of which chance holds none
        assert {card.kind.name for card in cards} == {kind.name for kind in kinds}
        assert sum(not card.is_held for card in cards) == sum(kind.weight for kind in kinds)
        held.update(card.kind.name for card in cards if card.is_held)
        assert [deck.next().kind for _ in range(3 * len(cards))]  # for ever
    assert held == Counter(kind.name for kind in KINDS if has_signs(kind))


def test_all_can_be_held() -> None:
    brokers = brokers_of(3, EVERY_BROKER)
    dealt = []
    for number in range(3):
        deck = Deck(KINDS, brokers, number, random.Random(1), hold_all=True)
        dealt += [*deck._cards]
        assert deck.next().is_held and all(deck.next().is_held for _ in range(2 * len(KINDS)))
    assert Counter(card.kind.name for card in dealt) == Counter(kind.name for kind in KINDS if has_signs(kind))


def test_sites_have_what_their_faults_need() -> None:
    assert brokers_of(3, {CLUSTER}) == [CLUSTER] * 3
    assert brokers_of(4, {SERVER, SENTINELS}) == [SERVER, SENTINELS, SERVER, SERVER]
