"""Text for people: events as lines, with nothing in them that a terminal could obey. Pure functions."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing it costs a tool's --help the Redis client
    from hsm_tools.consumer import StreamEvent

_UNKNOWN = "?"
_UNKNOWN_TIME = "????-??-?? ??:??:??"


def printable(text: str) -> str:
    r"""`text` with every character that is not plainly visible written as an escape: `\x1b`, `\u202e`, `\udc80`.

    That covers control characters, newlines, bidirectional and other format characters, blanks other than the space,
    lone surrogates, and what Unicode has not assigned. Backslashes stay as they are: the result is for reading only.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(ord(character)) for character in text)


def _escape(code_point: int) -> str:
    if code_point <= 0xFF:
        return f"\\x{code_point:02x}"
    return f"\\u{code_point:04x}" if code_point <= 0xFFFF else f"\\U{code_point:08x}"


def event_line(event: StreamEvent) -> str:
    """One event in one line without its newline; what the event does not say is a question mark.

    A refresh (an old state repeated) is marked as one behind its id.
    """
    data = event.data
    mdt = _text(data.get("mdt")) or printable(event.stream.rpartition(":")[2])
    fid, action = _fid_and_action(data)
    status = _text(data.get("status")) or _UNKNOWN
    refresh = ", refresh" if data.get("refresh") is True else ""
    when = _time(data.get("timestamp"), event.id)
    return f"{when} [{mdt}] {action:<8} {status:<8} -> [{fid}] (id: {printable(event.id)}{refresh})"


def _fid_and_action(data: dict[str, Any]) -> tuple[str, str]:
    """FID without brackets, and action; a PURGED by an earlier shipper has only `action_key`, which is both."""
    fid, action = _text(data.get("fid")), _text(data.get("action"))
    if not (fid and action):
        key_fid, _, key_action = _text(data.get("action_key")).rpartition(":")
        fid, action = fid or key_fid, action or key_action
    return fid.removeprefix("[").removesuffix("]") or _UNKNOWN, action or _UNKNOWN


def _text(value: object) -> str:
    if value is None:
        return ""
    return printable(value if isinstance(value, str) else str(value))


def _time(timestamp: object, entry_id: str) -> str:
    """Local time of an event; one that does not tell its time has that of its entry."""
    if isinstance(timestamp, int | float) and not isinstance(timestamp, bool) and math.isfinite(timestamp):
        seconds = int(timestamp)
    else:
        milliseconds = entry_id.partition("-")[0]
        seconds = int(milliseconds) // 1000 if milliseconds.isdecimal() else -1
    return _local_time(seconds) if 0 <= seconds < 253_402_300_800 else _UNKNOWN_TIME  # up to the year 9999


@lru_cache(maxsize=1024)  # events come in bursts of the same second
def _local_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
