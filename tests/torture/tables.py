"""What faults came to, and the tables of it for docs/reliability.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.torture.deck import has_signs
from tests.torture.fault import Kind
from tests.torture.faults import KINDS
from tests.torture.prometheus import metric_of


@dataclass
class Outcome:
    """What a kind of fault came to."""

    times: int = 0
    lost: int = 0
    duplicated: int = 0
    false: int = 0
    tracebacks: int = 0
    not_possible: int = 0
    held: int = 0
    """How often it lasted until it showed."""
    unseen: int = 0
    """How often it did not show as it should."""
    seconds: list[float] = field(default_factory=list)
    """To exact agreement, each time."""

    def add(self, other: Outcome) -> None:
        """Take those of another site in."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def is_bad(self) -> bool:
        """Whether anything was wrong."""
        return bool(self.lost or self.duplicated or self.false or self.tracebacks or self.unseen)


def table(outcomes: Mapping[str, Outcome]) -> str:
    """What was lost, and how long it took."""
    rows = [
        "| fault | times | lost | duplicated | false | seconds to agreement: median | worst |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    total = Outcome()
    for kind in KINDS:
        outcome = outcomes.get(kind.name)
        if outcome is not None and outcome.times:
            rows.append(_row(kind.name, outcome))
            total.add(outcome)
    if total.times:
        rows.append(_row("**all**", total))
    return "\n".join(rows)


def _row(name: str, outcome: Outcome) -> str:
    counts = f"{outcome.times} | {outcome.lost} | {outcome.duplicated} | {outcome.false}"
    return f"| {name} | {counts} | {statistics.median(outcome.seconds):.1f} | {max(outcome.seconds):.1f} |"


def signs_table(outcomes: Mapping[str, Outcome]) -> str:
    """How each fault shows, where it lasts: what was looked for, and how often it was all seen."""
    rows = [
        "| fault | the log says | when it is over | commands | metric | alert | shown |",
        "|---|---|---|---|---|---|--:|",
    ]
    for kind in KINDS:
        outcome = outcomes.get(kind.name)
        if has_signs(kind) and outcome is not None and outcome.times:
            rows.append(f"| {' | '.join([kind.name, *_cells(kind), _shown(outcome)])} |")
    return "\n".join(rows)


def _cells(kind: Kind) -> list[str]:
    signs = kind.signs
    commands = [f"`{name}`" for name in ("status", "check", "top") if getattr(signs, name)]
    metrics = dict.fromkeys(f"`{metric_of(alert)}`" for alert in signs.alerts)
    alerts = [f"`{alert}`" for alert in signs.alerts]
    return [_words(signs.line), _words(signs.over), ", ".join(commands), ", ".join(metrics), ", ".join(alerts)]


def _words(pattern: str) -> str:
    """A regular expression as a cell of a table."""
    return " or ".join(f"`{part}`" for part in pattern.split("|")) if pattern else ""


def _shown(outcome: Outcome) -> str:
    return f"{outcome.held - outcome.unseen} of {outcome.held}"
