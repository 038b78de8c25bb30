"""Faults on one site, one after another, and what came of each."""

from __future__ import annotations

import random
import re
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.faults import KINDS, Kind, NotPossible
from tests.torture.site import Site


@dataclass
class Outcome:
    """What a kind of fault came to."""

    times: int = 0
    lost: int = 0
    duplicated: int = 0
    false: int = 0
    tracebacks: int = 0
    not_possible: int = 0
    said: int = 0
    """How often the log had what it is to say."""
    seconds: list[float] = field(default_factory=list)
    """To exact agreement, each time."""

    def add(self, other: Outcome) -> None:
        """Take those of another site in."""
        for name in ("times", "lost", "duplicated", "false", "tracebacks", "not_possible", "said", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def is_bad(self) -> bool:
        """Whether anything was wrong."""
        return bool(self.lost or self.duplicated or self.false or self.tracebacks)


@dataclass
class Report:
    """What a site came to."""

    outcomes: dict[str, Outcome]
    complaints: list[str]


def attack(seed: int, until_s: float, only: str) -> Report:
    """Do faults to a site of its own until `until_s` of the clock; those with `only` in their names."""
    rng = random.Random(seed)
    kinds = [kind for kind in KINDS if only in kind.name]
    outcomes: dict[str, Outcome] = defaultdict(Outcome)
    complaints: list[str] = []
    site = Site(Path(tempfile.mkdtemp(prefix="torture")), seed)
    try:
        site.settle(forgives=True)
        while time.time() < until_s and len(complaints) < 20:
            kind = rng.choices(kinds, [each.weight for each in kinds])[0]
            _one(site, kind, outcomes[kind.name], complaints)
    finally:
        site.close()
    return Report(dict(outcomes), complaints)


def _one(site: Site, kind: Kind, outcome: Outcome, complaints: list[str]) -> None:
    logs = site.log_bytes()
    site.advance(site.rng.choice((1, 3, 15)))
    try:
        kind.do(site)
    except NotPossible:
        outcome.not_possible += 1
        return
    except Exception as error:  # noqa: BLE001 - it is told, and what comes of it is looked at as of any other
        complaints.append(f"{kind.name}: {type(error).__name__}: {str(error)[-2000:]}")
        outcome.lost += 1
    for host in site.hosts.values():
        if host.begin_if_ended():
            complaints.append(f"{kind.name}: the shipper on {host.keys['host']} has ended")
            outcome.lost += 1
    site.advance(1)
    took, differ = site.settle(forgives=kind.forgives)
    outcome.times += 1
    outcome.seconds.append(took)
    outcome.lost += differ
    if differ:
        complaints.append(f"{kind.name}: {differ} places differ after {took:.0f} s\n{site.logged_since(logs)[-3000:]}")
    for judge in site.judges.values():
        outcome.duplicated += judge.counts["duplicated"]
        outcome.false += judge.counts["false"]
        complaints += [f"{kind.name}: {complaint}" for complaint in judge.complaints]
        judge.counts.clear()
        judge.complaints.clear()
        if kind.forgives:
            judge.read(forgives=True)
    said = site.logged_since(logs)
    outcome.said += bool(kind.says and re.search(kind.says, said))
    if "Traceback (most recent call last)" in said and not kind.may_crash:
        outcome.tracebacks += 1
        complaints.append(f"{kind.name}: {said[said.index('Traceback') :][:4000]}")


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes as a table for docs/reliability.md."""
    rows = [
        "| fault | times | lost | duplicated | false | seconds to agreement: median | worst |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind in KINDS:
        outcome = outcomes.get(kind.name)
        if outcome is None or not outcome.times:
            continue
        median, worst = statistics.median(outcome.seconds), max(outcome.seconds)
        counts = f"{outcome.times} | {outcome.lost} | {outcome.duplicated} | {outcome.false}"
        rows.append(f"| {kind.name} | {counts} | {median:.1f} | {worst:.1f} |")
    total = Outcome()
    for outcome in outcomes.values():
        total.add(outcome)
    if total.seconds:
        counts = f"{total.times} | {total.lost} | {total.duplicated} | {total.false}"
        rows.append(f"| **all** | {counts} | {statistics.median(total.seconds):.1f} | {max(total.seconds):.1f} |")
    return "\n".join(rows)


def said_table(outcomes: dict[str, Outcome]) -> str:
    """What the log said of which fault, and what shows it where it lasts."""
    rows = ["| fault | the log says | of so many times | metric and alert where it lasts |", "|---|---|--:|---|"]
    for kind in KINDS:
        outcome = outcomes.get(kind.name)
        if kind.says and outcome is not None and outcome.times:
            says = kind.says.replace("|", "`, or `")
            rows.append(f"| {kind.name} | `{says}` | {outcome.said} of {outcome.times} | {kind.shows} |")
    return "\n".join(rows)
