"""When in the interval an MDT is polled, so that not all MDTs of a server are polled in the same second. Pure.

All workers of a server count their ticks from the same moment, the start of the machine's monotonic clock, each with an
offset that its MDT's name alone decides: nobody has to be asked, and a worker that is restarted keeps its turn.
"""

from __future__ import annotations

from zlib import crc32

# MDTs are numbered, and the multiples of this lie apart on a circle, where names hashed at random would often meet: for
# 2 to 32 MDTs whose numbers go up by 1, 2, 3, 4, 6, 8 or 16, never nearer than a quarter of what they would be if they
# were spread evenly. Found by trying; the golden ratio does it for numbers without gaps only.
_STEP = 0.42373


def share_of_interval(mdt: str) -> float:
    """Where in the interval `mdt` has its turn, from 0 to 1."""
    fsname, _, index = mdt.rpartition("-MDT")
    return (crc32(fsname.encode()) / 2**32 + int(index, 16) * _STEP) % 1.0


def first_tick_s(started_s: float, interval_s: float, share: float) -> float:
    """When the turn comes for the first time after a poll that was made at the start, on the same clock as `started_s`.

    Between half an interval and one and a half after that: what a list has lost is believed once two polls miss it, and
    they are not to follow each other at once.
    """
    earliest_s = started_s + interval_s / 2
    return earliest_s + (share * interval_s - earliest_s) % interval_s
