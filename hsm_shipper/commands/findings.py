"""What `hsm-action-shipper check` finds, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from hsm_shipper.errors import with_advice
from hsm_shipper.process.output import printable


class Level(IntEnum):
    """How bad; the worst is the exit status of `check`."""

    OK = 0
    WARNING = 1
    PROBLEM = 2


class Finding(NamedTuple):
    """One line: `subject` is what was looked at, `text` what was found, `advice` what to do ('' for nothing)."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def ok(subject: str, text: str, advice: str = "") -> Finding:
    """Nothing to do; at most `advice` that saves something."""
    return Finding(Level.OK, subject, text, advice)


def warning(subject: str, text: str, advice: str) -> Finding:
    """It works, but something may be lost or missed."""
    return Finding(Level.WARNING, subject, text, advice)


def problem(subject: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(Level.PROBLEM, subject, text, advice)


def worst(findings: Sequence[Finding]) -> Level:
    """The worst level; `OK` for none."""
    return max((finding.level for finding in findings), default=Level.OK)


def to_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, in order, and a line that counts them."""
    width = max((len(finding.subject) for finding in findings), default=0)
    lines = []
    for level, subject, text, advice in findings:
        told = with_advice(text, advice)
        lines.append(printable(f"{level.name.lower():<8} {subject:<{width}}  {told}"))
    counts = [f"{sum(f.level is level for f in findings)} {level.name.lower()}" for level in Level]
    return "\n".join([*lines, ", ".join(counts)])


def to_json(findings: Sequence[Finding]) -> str:
    """One JSON object: the worst level, and every finding."""
    rows = [finding._asdict() | {"level": finding.level.name.lower()} for finding in findings]
    return json.dumps({"worst": worst(findings).name.lower(), "findings": rows}, indent=2)
