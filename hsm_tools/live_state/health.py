"""How a worker and its coordinator do, by the worker's heartbeat. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from hsm_shipper.contract.heartbeat import Heartbeat, decode, late_after_s, poll_troubles

ENABLED = "enabled"
# The clocks of two servers may differ by so much, whatever the interval.
_CLOCK_DIFFERENCE_S = 10.0
_EXAMPLE_BYTES = 60


class Health(StrEnum):
    """Whether an MDT is polled."""

    FRESH = "fresh"
    OLD = "old"
    """There is a heartbeat, and the poll that it tells of was long ago."""
    MISSING = "missing"
    """There is none: no worker polls, or it hangs, or it cannot reach Redis."""
    UNREADABLE = "unreadable"
    """Nothing is known: it may not be read, or what is there does not decode."""


class WorkerHealth(NamedTuple):
    """What to show of a worker."""

    state: Health
    age_s: float | None
    """Seconds since its last poll, 0 where its clock is ahead; None without a heartbeat."""
    troubles: list[str]
    """What an operator should look at, a few words each; what comes from the heartbeat is not fit for a terminal."""


def read_heartbeat(reply: object) -> tuple[Heartbeat | None, str | None]:
    """The heartbeat in the server's reply to GET (bytes, None or an error), and why it cannot be read, if it cannot."""
    if reply is None:
        return None, None
    if not isinstance(reply, bytes):
        return None, f"heartbeat cannot be read: {reply}"
    heartbeat = decode(reply)
    if heartbeat is None:
        return None, f"heartbeat does not decode: {reply[:_EXAMPLE_BYTES]!r}"
    return heartbeat, None


def worker_health(heartbeat: Heartbeat | None, now_s: float, trouble: str | None = None) -> WorkerHealth:
    """The health that `heartbeat` tells at `now_s` (seconds since the epoch); `trouble` is why it cannot be read."""
    if trouble is not None:
        return WorkerHealth(Health.UNREADABLE, None, [trouble])
    if heartbeat is None:
        return WorkerHealth(Health.MISSING, None, ["no heartbeat"])
    age_s = max(0.0, now_s - heartbeat.last_poll_at)
    late_s = late_after_s(heartbeat.poll_interval_s, heartbeat.last_poll_duration_s)
    is_old = age_s > max(late_s, _CLOCK_DIFFERENCE_S)
    troubles = [f"last poll {age_s:,.0f} s ago"] if is_old else []
    troubles += poll_troubles(
        heartbeat.last_error,
        heartbeat.last_poll_duration_s,
        heartbeat.last_poll_read_s,
        heartbeat.poll_interval_s,
        heartbeat.lines,
        heartbeat.lines_not_understood,
    )
    if heartbeat.hsm_control not in (ENABLED, None):
        troubles.append(f"coordinator is {heartbeat.hsm_control}")
    if heartbeat.agents_not_understood:
        troubles.append(f"{heartbeat.agents_not_understood:,} copytools are not understood: what they do is not known")
    elif heartbeat.copytools == []:
        troubles.append("no copytool")
    if heartbeat.lost_slots is not None:
        troubles.append(str(heartbeat.lost_slots))
    return WorkerHealth(Health.OLD if is_old else Health.FRESH, age_s, troubles)
