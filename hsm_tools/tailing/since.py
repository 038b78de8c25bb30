"""`--since`: a point in time as people write it. Pure: the present is an argument."""

from __future__ import annotations

import math
import re
from datetime import datetime

from hsm_shipper.errors import ConfigError
from hsm_shipper.process.command_line import without_urls

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")
_EPOCH = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
# Smaller numbers are no time at which there was a stream, but a duration whose unit was left out.
_EPOCH_MIN_S = 1_000_000_000
_LARGEST_SEQUENCE = 2**64 - 1

FORMS = "a duration (90s, 30m, 2h, 1d, 1w), a local time (2026-11-22T10:00) or seconds since the epoch"


def parse_since(text: str, now_s: float) -> float:
    """Seconds since the epoch of `text`, one of `FORMS`; `ConfigError` for anything else, and for the future."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0.0, now_s - float(ago[1]) * _UNITS_S[ago[2]])
    since_s = _point_s(text)
    if since_s > now_s:
        raise ConfigError(f"--since {text!r} lies in the future", "leave it out to see what happens from now on")
    return since_s


def entry_id_before(since_s: float) -> str:
    """The last id that an entry of before `since_s` can have: reading goes on after it."""
    milliseconds = math.floor(since_s * 1000)
    return f"{milliseconds - 1}-{_LARGEST_SEQUENCE}" if milliseconds > 0 else "0-0"


def _point_s(text: str) -> float:
    if _EPOCH.fullmatch(text):
        if float(text) < _EPOCH_MIN_S:
            raise ConfigError(f"--since {text!r} has no unit", f"give {FORMS}")
        return float(text)
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"--since {without_urls(text)!r} is no time", f"give {FORMS}") from None
