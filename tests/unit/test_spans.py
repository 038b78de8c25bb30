"""Spans of time in words."""

from __future__ import annotations

import pytest

from hsm_tools.command.durations import age, span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (-5, "0s"), (59.9, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (4500, "1h 15m"), (1_058_400, "12d 6h")],
)
def test_a_span_has_at_most_two_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_an_age_that_is_not_known_is_a_question_mark() -> None:
    assert age(None, 100) == "?"
    assert age(40, 100) == "1m 0s"
