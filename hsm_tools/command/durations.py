"""Spans of time as people say them. Pure."""

from __future__ import annotations

UNKNOWN_SPAN = "?"


def span(seconds: float) -> str:
    """`seconds` in at most two units, rounded down: `45s`, `5m 3s`, `1h 15m`, `12d 4h`; a negative one is `0s`."""
    left = int(max(seconds, 0))
    if left < 60:
        return f"{left}s"
    if left < 3600:
        return f"{left // 60}m {left % 60}s"
    if left < 86_400:
        return f"{left // 3600}h {left % 3600 // 60}m"
    return f"{left // 86_400:,}d {left % 86_400 // 3600}h"


def age(since_s: float | None, now_s: float) -> str:
    """How long ago `since_s` was, both in seconds since the epoch; a question mark where that is not known."""
    return UNKNOWN_SPAN if since_s is None else span(now_s - since_s)
