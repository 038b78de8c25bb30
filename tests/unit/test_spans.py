"""Spans of time in words."""

from __future__ import annotations

import pytest

from hsm_shipper.process.durations import age, in_one_unit, span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (-5, "0s"), (59.9, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (4500, "1h 15m"), (1_058_400, "12d 6h")],
)
def test_a_span_has_at_most_two_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (86_400, "1d00h"), (277_200, "3d05h")],
)
def test_a_compact_span_is_one_word(seconds: float, said: str) -> None:
    assert span(seconds, compact=True) == said


def test_thousands_of_days() -> None:
    assert (span(86_400_000), span(86_400_000, compact=True)) == ("1,000d 0h", "1000d00h")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (6000, "2 h"), (259_199, "72 h"), (777_600, "9 d")],
)
def test_one_unit_leaves_two_digits(seconds: float, said: str) -> None:
    assert in_one_unit(seconds) == said


def test_an_age_that_is_not_known_is_a_question_mark() -> None:
    assert age(None, 100) == "?"
    assert age(40, 100) == "1m 0s"
