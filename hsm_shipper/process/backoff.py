"""Waiting ever longer for what goes on failing. Pure."""

from __future__ import annotations

_DOUBLINGS_MAX = 60  # further ones change nothing, and would leave what a float holds


def backoff_s(failures: int, first_s: float, longest_s: float) -> float:
    """How long to wait after `failures` in a row (at least 1): `first_s`, doubled with each up to `longest_s`."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, _DOUBLINGS_MAX))
