"""Tests wait as `tests/support/waiting.py` does: a deadline of a few seconds is one that a busy machine misses."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
SHORTEST_DEADLINE_S = 60.0
SHORTEST_WAIT_S = 1.0  # what is less is a pace, or a setting of what is tested
# Which argument of them is the limit, where it has no name.
WAITS = {"wait": 0, "join": 0, "communicate": 1, "wait_for": 1}


def hasty(source: str) -> list[int]:
    """The lines of waits that end too soon."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if any(SHORTEST_WAIT_S <= limit_s < SHORTEST_DEADLINE_S for limit_s in limits_s(call))
    ]


def limits_s(call: ast.Call) -> Iterator[float]:
    """The numbers that limit a wait."""
    given = [keyword.value for keyword in call.keywords if keyword.arg in ("timeout", "timeout_s")]
    if isinstance(call.func, ast.Attribute) and call.func.attr in WAITS:
        given += call.args[WAITS[call.func.attr] :][:1]
    for value in given:
        if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
            yield value.value


def test_no_wait_is_hasty() -> None:
    found = {str(path.relative_to(FOLDER)): hasty(path.read_text(encoding="utf-8")) for path in FOLDER.rglob("*.py")}
    assert len(found) > 100
    assert {path: lines for path, lines in found.items() if lines} == {}, "wait for DEADLINE_S"


@pytest.mark.parametrize(
    "source",
    [
        "process.wait(10)",
        "process.communicate(timeout=30)",
        "eventually(check, timeout_s=15.0)",
        "wait_for(1, timeout=5)",
    ],
)
def test_no_way_to_be_hasty_is_overlooked(source: str) -> None:
    assert hasty(source) == [1]
