"""The heartbeat of a worker: what it says of itself and of its coordinator after each poll.

JSON under `redis_keys.heartbeat_key`, for anybody who can read Redis. It expires when no poll renews it: without one,
no worker polls that MDT, or it hangs, or it cannot reach Redis. New fields may come, none goes or changes its meaning.
"""

from __future__ import annotations

import msgspec

from hsm_shipper.contract.agents import Copytool
from hsm_shipper.contract.poll import Count, Poll, Span, Time
from hsm_shipper.contract.slots import LOST_AFTER_INTERVALS, Slots

MISSED_POLLS = 3
SHORTEST_EXPIRY_S = 60.0
# Ours have some hundred bytes, and stay below this with all the copytools that a file `agents` of 1 MiB can tell of.
_MAX_BYTES = 4 * 1024 * 1024


class Heartbeat(Poll, frozen=True, kw_only=True):  # type: ignore[misc]  # msgspec can
    """One heartbeat: the last poll, and its coordinator. What could not be read is None."""

    poll_interval_s: Span
    last_error: str | None = None
    """What was wrong with the last poll, None if nothing was."""
    failed_polls: Count | None = None
    """Polls that failed since this worker began, those that Redis was away for as well; None: an earlier release's."""
    hsm_control: str | None = None
    """The coordinator's state: `enabled`, `disabled`, `stopped`, …"""
    max_requests: Count | None = None
    archive_count: Count | None = None
    restore_count: Count | None = None
    remove_count: Count | None = None
    """These three: the coordinator's active requests."""
    slots_lost_since: Time | None = None
    """Since when each poll found no slot left beside requests that no copytool works on; None where the last did not.

    For moments that is so in good health: see `lost_slots`.
    """
    grace_delay_s: int | None = None
    loop_period_s: int | None = None
    copytools: list[Copytool] | None = None
    agents_not_understood: Count = 0
    """Lines of the file `agents` that are not understood, and so not among `copytools`."""

    @property
    def slots(self) -> Slots:
        """The coordinator's slots as the last poll found them."""
        return Slots(*(getattr(self, name) for name in Slots._fields))

    @property
    def registered_copytools(self) -> int | None:
        """How many copytools are registered, those that are not understood as well; None: not known."""
        return None if self.copytools is None else len(self.copytools) + self.agents_not_understood

    @property
    def lost_slots(self) -> Slots | None:
        """The slots where some of them are lost: at three polls in a row, or where it is not known since when.

        That lies ahead of this poll where the clock was set back since.
        """
        since = self.slots_lost_since
        if since is not None and 0 <= self.last_poll_at - since < LOST_AFTER_INTERVALS * self.poll_interval_s:
            return None
        return self.slots if self.slots.lost else None


_decoder = msgspec.json.Decoder(Heartbeat)


def encode(heartbeat: Heartbeat) -> bytes:
    """As it is written to Redis."""
    return msgspec.json.encode(heartbeat)


def decode(data: bytes) -> Heartbeat | None:
    """The heartbeat that `data` is; None if it is none, or larger than any."""
    if len(data) > _MAX_BYTES:
        return None
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # nested a thousandfold
        return None


def late_after_s(poll_interval_s: float, last_poll_duration_s: float) -> float:
    """The age in seconds above which a poll is old: two may be late on a busy server. They may outlast the interval."""
    return MISSED_POLLS * max(poll_interval_s, last_poll_duration_s)


def expiry_s(poll_interval_s: float, last_poll_duration_s: float) -> float:
    """After how many seconds without a poll a heartbeat is gone."""
    return max(SHORTEST_EXPIRY_S, late_after_s(poll_interval_s, last_poll_duration_s))


def took(duration_s: float, read_s: float | None) -> str:
    """How long a poll took, for a person: `25.0 s (20.1 s of it the kernel's, to give the list)`."""
    of_it = "" if read_s is None else f" ({read_s:,.1f} s of it the kernel's, to give the list)"
    return f"{duration_s:,.1f} s{of_it}"


def poll_troubles(
    error: str | None,
    duration_s: float,
    read_s: float | None,
    poll_interval_s: float,
    lines: int,
    not_understood: int | None,
) -> list[str]:
    """What an operator should look at after a poll, a few words each; not fit for a terminal."""
    troubles = []
    if error is not None:
        troubles.append(f"last poll failed: {error}")
    elif duration_s > poll_interval_s:
        troubles.append(f"last poll took {took(duration_s, read_s)}, longer than poll_interval: fewer are made")
    if not_understood:
        count = f"{not_understood:,} of {lines:,} lines of the actions file"
        troubles.append(f"{count} are not understood, and not shipped: `hsm-action-shipper check` shows the first")
    return troubles
