"""What the table of faults says of metrics and alerts is there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.torture.faults import KINDS
from tests.torture.runs import Outcome, said_table, table

ROOT = Path(__file__).parents[2]


def test_what_shows_a_fault_exists() -> None:
    alerts = (ROOT / "deploy/prometheus/alerts.yaml").read_text()
    metrics = (ROOT / "docs/metrics.md").read_text()
    named = {word for kind in KINDS for word in re.findall("`([^`]+)`", kind.shows)}
    assert named
    for name in named:
        assert f"alert: {name}\n" in alerts if name.startswith("Hsm") else name in metrics, name


def test_every_kind_has_a_name_of_its_own_and_a_row() -> None:
    names = [kind.name for kind in KINDS]
    assert len(names) == len(set(names)) >= 15
    outcomes = {name: Outcome(times=2, seconds=[1.0, 3.0], said=1) for name in names}
    assert all(f"| {name} | 2 | 0 | 0 | 0 | 2.0 | 3.0 |" in table(outcomes) for name in names)
    assert f"| **all** | {2 * len(names)} | 0 | 0 | 0 |" in table(outcomes)
    assert said_table(outcomes).count("1 of 2") == sum(bool(kind.says) for kind in KINDS)


def test_what_is_lost_is_bad() -> None:
    assert not Outcome(times=1).is_bad
    assert all(
        each.is_bad for each in (Outcome(lost=1), Outcome(duplicated=1), Outcome(false=1), Outcome(tracebacks=1))
    )
