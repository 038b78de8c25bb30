"""The log: one line a record, control characters harmless, repeated errors at a low rate."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from hsm_shipper.config import Config
from hsm_shipper.process import log


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = before, level


def test_lines_look_like_supervisords(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("mdt-elm-MDT0000", Config(log_level="WARNING"))
    logging.getLogger("x").warning("trouble with %s", "a\x1b[2J\nb")
    logging.getLogger("x").info("not this")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING mdt-elm-MDT0000: trouble with a\\x1b\[2J\\x0ab\n",
        capsys.readouterr().err,
    )


def test_a_repeated_error_is_said_at_a_low_rate(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    errors = log.RepeatedErrors(logging.getLogger("t"), repeat_interval_s=60.0, monotonic=clock)
    caplog.set_level(logging.INFO)
    for _ in range(13):
        errors.failed("Redis", "cannot reach it")
        errors.failed("disk", "full")
        clock.now += 10
    errors.worked("Redis")
    errors.worked("Redis")
    errors.worked("never failed")
    said = [message for message in caplog.messages if "full" not in message]
    assert said == [
        "cannot reach it",
        "cannot reach it (still; 7 times in 60 s)",
        "cannot reach it (still; 13 times in 120 s)",
        "Redis: recovered after 13 failures (130 s)",
    ]


@pytest.mark.parametrize(("interval_s", "errors_at"), [(10, [3]), (25, [3]), (60, [2]), (300, [2, 3, 4, 5])])
def test_what_mostly_passes_is_an_error_once_it_lasts(
    caplog: pytest.LogCaptureFixture, interval_s: int, errors_at: list[int]
) -> None:
    clock = Clock()
    errors = log.RepeatedErrors(logging.getLogger("t"), monotonic=clock)
    caplog.set_level(logging.INFO)
    said_at = []
    for time in range(1, 6):
        before = len(caplog.records)
        errors.failed("the file", "incomplete", passing=True)
        said_at += [(time, record.levelname) for record in caplog.records[before:]]
        clock.now += interval_s
    assert said_at == [(1, "INFO"), *((time, "ERROR") for time in errors_at)]
    assert caplog.messages[1].startswith("incomplete (still; ")


def test_what_passes_is_no_error_and_is_said_to_be_over(caplog: pytest.LogCaptureFixture) -> None:
    errors = log.RepeatedErrors(logging.getLogger("t"), monotonic=Clock())
    caplog.set_level(logging.INFO)
    for _ in range(2):
        for _ in range(2):
            errors.failed("the file", "incomplete", passing=True)
        errors.worked("the file")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "incomplete"),
        ("INFO", "the file: recovered after 2 failures (0 s)"),
    ] * 2
