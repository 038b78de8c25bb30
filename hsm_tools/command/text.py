"""Text for people: events as lines, with nothing in them that a terminal could obey. Pure functions."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from hsm_shipper.process.output import printable
from hsm_tools.command.colour import PLAIN, Colours

if TYPE_CHECKING:  # importing it costs a tool's --help the Redis client
    from hsm_tools.consumer import StreamEvent

UNKNOWN = "?"
UNKNOWN_TIME = "????-??-?? ??:??:??"
_YEAR_10000_S = 253_402_300_800


class Facts(NamedTuple):
    """What an event is about, as it says itself: not yet fit for a terminal, and empty where it does not say."""

    mdt: str
    fid: str
    """Without brackets."""
    action: str
    status: str


def facts(event: StreamEvent) -> Facts:
    """What `event` is about; a PURGED by an earlier shipper has only `action_key`, which is FID and action."""
    data = event.data
    fid, action = word(data.get("fid")), word(data.get("action"))
    if not (fid and action):
        key_fid, _, key_action = word(data.get("action_key")).rpartition(":")
        fid, action = fid or key_fid, action or key_action
    mdt = word(data.get("mdt")) or event.stream.rpartition(":")[2]
    return Facts(mdt, fid.removeprefix("[").removesuffix("]"), action, word(data.get("status")))


def event_line(event: StreamEvent, about: Facts, path: str | None = None, colours: Colours = PLAIN) -> str:
    """One event in one line without its newline; what the event does not say is a question mark.

    `about` are its facts. Without a path it shows the FID in brackets. A refresh (an old state repeated) is marked as
    one behind its id.
    """
    mdt, fid, action, status = about
    refresh = ", refresh" if event.is_refresh else ""
    when = event_time(event)
    where = file_name(fid, path)
    shown = printable(status) or UNKNOWN
    before, after = colours.of_status(status)
    blanks = " " * (8 - len(shown))
    quiet, loud = colours.quiet
    return (
        f"{when} [{printable(mdt)}] {printable(action) or UNKNOWN:<8} {before}{shown}{after}{blanks} -> {where}"
        f" {quiet}(id: {printable(event.id)}{refresh}){loud}"
    )


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
