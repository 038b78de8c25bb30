"""Which streams have grown too long to wait for their scheduled maintenance. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hsm_shipper.contract.trim_bound import length_bound
from hsm_shipper.process.backoff import backoff_s

# A run is not waited for once a stream is more than so many times as long as the run would leave it.
TOO_LONG = 2
LONGEST_WAIT_S = 3600.0


@dataclass
class _Stream:
    held_back: int = 0
    """Entries that the last run had to leave for a consumer group, where they were too many."""
    in_vain: int = 0
    """Runs in a row that left the stream too long."""
    not_before: float = 0.0


class LengthWatch:
    """What is known of the streams from their last runs. `now` is the monotonic clock's, in seconds."""

    def __init__(self, poll_interval_s: float) -> None:
        self._poll_interval_s = poll_interval_s
        self._streams: dict[str, _Stream] = {}

    def limit(self, mdt: str, live: int) -> int:
        """Entries that the stream of `mdt` may have while it has `live` live actions."""
        return TOO_LONG * max(length_bound(live), self._of(mdt).held_back)

    def may_run(self, mdt: str, now: float) -> bool:
        """Whether the last run was not in vain, or is long enough ago."""
        return now >= self._of(mdt).not_before

    def ran(self, mdt: str, *, kept: int, live: int, refreshed: int, length: int, now: float) -> None:
        """A run kept `kept` of the entries that it read, had `refreshed` actions marked, and left `length` entries.

        What a consumer group keeps is not too long: another run would change nothing. Neither does one while the
        worker is stopped, or behind: it is tried again ever less often.
        """
        stream = self._of(mdt)
        stream.held_back = kept if kept > length_bound(live) and not refreshed else 0
        stream.in_vain = stream.in_vain + 1 if length > self.limit(mdt, live) else 0
        wait_s = backoff_s(stream.in_vain, 2 * self._poll_interval_s, LONGEST_WAIT_S) if stream.in_vain else 0.0
        stream.not_before = now + wait_s

    def forget(self, mdt: str) -> None:
        """It has left."""
        self._streams.pop(mdt, None)

    def _of(self, mdt: str) -> _Stream:
        return self._streams.setdefault(mdt, _Stream())
