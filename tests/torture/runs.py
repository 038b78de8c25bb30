"""Faults on one site, one after another, and what came of each."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.torture.deck import Card, Deck
from tests.torture.fault import Kind, NotPossible
from tests.torture.faults import KINDS
from tests.torture.look import Eyes, Look
from tests.torture.prometheus import Alerts
from tests.torture.site import Site
from tests.torture.tables import Outcome

_COMPLAINTS_MAX = 20
_TRIES_MAX = 3
"""Of a fault that is not possible just now."""


class Order(NamedTuple):
    """What is to be done to which site, in a process of its own."""

    number: int
    brokers: Sequence[str]
    """What all sites ship to."""
    seed: int
    until_s: float
    """Seconds since the epoch."""
    only: str
    """Faults with this in their names."""
    hold_all: bool
    """Whether each is looked at while it lasts."""
    prometheus_url: str | None
    targets: Path


@dataclass
class Report:
    """What a site came to."""

    outcomes: dict[str, Outcome] = field(default_factory=lambda: defaultdict(Outcome))
    complaints: list[str] = field(default_factory=list)


def wanted_kinds(only: str) -> list[Kind]:
    """Those with this in their names."""
    return [kind for kind in KINDS if only in kind.name]


def attack(order: Order) -> Report:
    """Do faults to a site of its own until the time is over."""
    rng = random.Random(order.seed)
    deck = Deck(wanted_kinds(order.only), order.brokers, order.number, rng, hold_all=order.hold_all)
    folder = Path(tempfile.mkdtemp(prefix="torture"))
    report = Report()
    site = Site(folder, order.seed, order.brokers[order.number])
    try:
        alerts = Alerts(order.prometheus_url, order.targets) if order.prometheus_url else None
        took_s, differ = site.settle(forgives=True)
        if differ:
            report.complaints.append(f"before any fault: {differ} places differ after {took_s:.0f} s")
        eyes = Eyes(site, alerts)
        try:
            _attack(site, eyes, deck, order, report)
        finally:
            eyes.close()
    finally:
        site.close()
        shutil.rmtree(folder, ignore_errors=True)
    report.outcomes = dict(report.outcomes)  # without what makes new ones, which no pipe takes
    return report


def _attack(site: Site, eyes: Eyes, deck: Deck, order: Order, report: Report) -> None:
    not_possible: dict[str, int] = defaultdict(int)
    while time.time() < order.until_s and len(report.complaints) < _COMPLAINTS_MAX:
        card = deck.next()
        if not _one(site, eyes, card, report) and card.is_held and not_possible[card.kind.name] < _TRIES_MAX:
            not_possible[card.kind.name] += 1
            deck.put_back(card)


def _one(site: Site, eyes: Eyes, card: Card, report: Report) -> bool:
    """Do one fault, and judge what came of it; whether it was possible."""
    kind, outcome, complaints = card.kind, report.outcomes[card.kind.name], report.complaints
    logs = site.log_bytes()
    site.advance(site.rng.choice((1, 3, 15)))
    look = Look(eyes, kind) if card.is_held else None
    site.until_shown = look.until_shown if look else None
    try:
        kind.do(site)
    except NotPossible:
        outcome.not_possible += 1
        return False
    except Exception as error:  # noqa: BLE001 - it is told, and what comes of it is looked at as of any other
        complaints.append(f"{kind.name}: {type(error).__name__}: {str(error)[-2000:]}")
        outcome.lost += 1
    finally:
        site.until_shown = None
    for host in site.hosts.values():
        if host.begin_if_ended():
            complaints.append(f"{kind.name}: the shipper on {host.keys['host']} has ended")
            outcome.lost += 1
    site.advance(1)
    took_s, differ = site.settle(forgives=kind.forgives)
    outcome.times += 1
    outcome.seconds.append(took_s)
    outcome.lost += differ
    if differ:
        said = site.logged_since(logs)[-3000:]
        complaints.append(f"{kind.name}: {differ} places differ after {took_s:.0f} s\n{said}")
    if look is not None:
        _look_back(site, look, kind, outcome, complaints, logs)
    _judge(site, kind, outcome, complaints)
    _read_log(site.logged_since(logs), kind, outcome, complaints)
    return True


def _judge(site: Site, kind: Kind, outcome: Outcome, complaints: list[str]) -> None:
    for judge in site.judges.values():
        outcome.duplicated += judge.counts["duplicated"]
        outcome.false += judge.counts["false"]
        complaints += [f"{kind.name}: {complaint}" for complaint in judge.complaints]
        judge.counts.clear()
        judge.complaints.clear()
        if kind.forgives:
            judge.read(forgives=True)


def _look_back(
    site: Site, look: Look, kind: Kind, outcome: Outcome, complaints: list[str], logs: dict[str, int]
) -> None:
    look.afterwards()
    outcome.held += 1
    if look.not_seen:
        outcome.unseen += 1
        said = site.logged_since(logs)[-3000:]
        complaints.append(f"{kind.name}: it does not show: {'; '.join(look.not_seen)}\n{said}")
    site.settle(forgives=kind.forgives)


def _read_log(said: str, kind: Kind, outcome: Outcome, complaints: list[str]) -> None:
    if "Traceback (most recent call last)" in said and not kind.may_crash:
        outcome.tracebacks += 1
        complaints.append(f"{kind.name}: {said[said.index('Traceback') :][:4000]}")
