"""`--since`: durations, local times, seconds since the epoch, and nothing guessed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hsm_shipper.errors import ConfigError
from hsm_tools.tailing.since import entry_id_before, parse_since

NOW_S = 1_795_365_352.0


@pytest.fixture(autouse=True)
def _two_hours_east(set_zone: Callable[[str], None]) -> None:
    set_zone("EAST-2")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", NOW_S - 90),
        ("30m", NOW_S - 1800),
        ("2h", NOW_S - 7200),
        ("1.5h", NOW_S - 5400),
        ("1d", NOW_S - 86_400),
        ("2w", NOW_S - 1_209_600),
        ("9999w", 0.0),
        ("1759401125", 1_759_401_125.0),
        ("1759401125.5", 1_759_401_125.5),
        ("2025-10-02T12:32:05", 1_759_401_125.0),
        ("2025-10-02 12:32", 1_759_401_120.0),
        ("2025-10-02T10:32:05Z", 1_759_401_125.0),
        ("2025-10-02T10:32:05+00:00", 1_759_401_125.0),
        ("2025-10-02", 1_759_356_000.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_since(text, NOW_S) == seconds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("90", "no unit"),
        ("2 h", "is no time"),
        ("-1h", "is no time"),
        ("yesterday", "is no time"),
        ("redis://:secret@host/1", "'redis://…' is no time"),
        ("", "is no time"),
        ("2025-13-01", "is no time"),
        ("٣h", "is no time"),
        ("2030-01-01", "in the future"),
        ("99999999999", "in the future"),
    ],
)
def test_what_is_no_time_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_since(text, NOW_S)


def test_reading_goes_on_after_the_last_entry_of_before() -> None:
    assert entry_id_before(1_759_401_125.5) == "1759401125499-18446744073709551615"
    assert entry_id_before(0.0) == "0-0"
