"""Spans of time as people say them, rounded down but for `in_one_unit`. Pure."""

from __future__ import annotations

from itertools import pairwise

UNKNOWN_SPAN = "?"

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def span(seconds: float, *, compact: bool = False) -> str:
    """`seconds` in at most two units: `45s`, `5m 3s`, `1h 15m`, `12d 4h`; a negative one is `0s`.

    With `compact` in one word, whose widths differ less: `5m03s`, `1h15m`, `12d04h`.
    """
    left = int(max(seconds, 0))
    for (unit, size), (finer, finer_size) in pairwise(_UNITS):
        if left >= size:
            count, rest = left // size, left % size // finer_size
            return f"{count}{unit}{rest:02}{finer}" if compact else f"{count:,}{unit} {rest}{finer}"
    return f"{left}s"


def age(since_s: float | None, now_s: float) -> str:
    """How long ago `since_s` was, both in seconds since the epoch; a question mark where that is not known."""
    return UNKNOWN_SPAN if since_s is None else span(now_s - since_s)


def in_one_unit(seconds: float) -> str:
    """`seconds` in the largest unit that leaves two digits, such as `45 s`, `12 min`, `30 h` or `9 d`."""
    for unit, size, limit in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < size * limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
