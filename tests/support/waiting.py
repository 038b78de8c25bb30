"""Waiting in tests: for something to become true, never for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# A machine that is busy with much else keeps it: only what never happens takes so long. It is well below pytest's
# timeout, so that a failure tells what was waited for.
DEADLINE_S = 120.0

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout_s: float = DEADLINE_S, interval_s: float = 0.02) -> T:
    """Call `check` until it returns something true, and return that; fail after `timeout_s` with its last answer."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() >= deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s; the last answer was {answer!r}")
        time.sleep(interval_s)
