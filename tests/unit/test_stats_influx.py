"""Line protocol: tags and fields that say exactly what they were given."""

from __future__ import annotations

import pytest

from hsm_tools.statistics.stats_influx import Value, line


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (7, "7i"),
        (-7, "-7i"),
        (0.25, "0.25"),
        (1e300, "1e+300"),
        ("enabled", '"enabled"'),
        ('say "no"', r'"say \"no\""'),
        ("back\\", '"back\\\\"'),
        ("two\nlines", r'"two\\x0alines"'),
        ("", '""'),
    ],
    ids=str,
)
def test_fields(value: Value, written: str) -> None:
    assert list(line("m", {}, {"f": value})) == [f"m f={written}"]


def test_what_is_not_known_or_no_integer_of_influx_is_left_out() -> None:
    assert list(line("m", {}, {"a": None, "b": 1, "c": 2**63})) == ["m b=1i"]
    assert list(line("m", {"t": "v"}, {"a": None})) == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("hsm:actions:elm-MDT0000", "hsm:actions:elm-MDT0000"),
        ("a,b=c d", r"a\,b\=c\ d"),
        ("end\\", "end/"),
        ("a\nb", "a/x0ab"),
    ],
)
def test_tags(value: str, written: str) -> None:
    assert list(line("m", {"t": value}, {"f": 1})) == [f"m,t={written} f=1i"]
