"""What an event says, as text for people, with nothing in it that a terminal could obey. Pure functions."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from hsm_shipper.process.output import printable

if TYPE_CHECKING:  # importing it costs a tool's --help the Redis client
    from hsm_tools.consumer import StreamEvent

UNKNOWN = "?"
UNKNOWN_TIME = "????-??-?? ??:??:??"
_YEAR_10000_S = 253_402_300_800


def file_name(fid: str, path: str | None) -> str:
    """How the file of an event is shown: by its path, else by its FID in brackets."""
    return f"[{printable(fid) or UNKNOWN}]" if path is None else printable(path)


def event_seconds(event: StreamEvent) -> int | None:
    """When the shipper saw it, seconds since the epoch; an event that does not tell has the time of its entry."""
    seconds = whole_seconds(event.data.get("timestamp"))
    if seconds is not None:
        return seconds
    milliseconds = event.id.partition("-")[0]
    return int(milliseconds) // 1000 if milliseconds.isdecimal() and len(milliseconds) < 20 else None


def event_time(event: StreamEvent) -> str:
    """`event_seconds` in local time."""
    seconds = event_seconds(event)
    return UNKNOWN_TIME if seconds is None or not 0 <= seconds < _YEAR_10000_S else _local_time(seconds)


def whole_seconds(value: object) -> int | None:
    """`value` as whole seconds if it is a number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return int(value)
    return None


def word(value: object) -> str:
    """A value of an event as text; empty for none, and for lists and objects, which no event of ours holds."""
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, list | dict) else str(value)


@lru_cache(maxsize=1024)  # events come in bursts of the same second
def _local_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
