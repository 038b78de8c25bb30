"""The coordinator's slots, and whether requests that nobody works on hold them. Pure.

A coordinator starts nothing while it has `max_requests` active requests or more: `archive_count`, `restore_count` and
`remove_count` together. A request that is handed to a copytool is active until that copytool reports its end, and
whoever is killed never reports. Its requests stay active whatever registers afterwards (seen on Lustre 2.17.57: 23 of
them with `max_requests` 10 and `current:0` in `agents` for 23 minutes, all that waited went on waiting; neither
`active_request_timeout` nor a new copytool cleared them, `hsm_control` `shutdown` and then `enabled` did).
"""

from __future__ import annotations

from typing import NamedTuple

from hsm_shipper.contract.agents import Copytool

# A request is active from before it is sent until after its end is booked, so for moments a busy coordinator has more
# of them than its copytools: only what three polls in a row find is lost. The third comes about two intervals after
# the first.
LOST_AFTER_INTERVALS = 1.5


class Slots(NamedTuple):
    """What one look at a coordinator tells of its slots; None for what cannot be read."""

    max_requests: int | None = None
    archive_count: int | None = None
    restore_count: int | None = None
    remove_count: int | None = None
    copytools: list[Copytool] | None = None
    agents_not_understood: int = 0
    """Lines of `agents` that are not among `copytools`: what these work on is not known."""

    @property
    def active(self) -> int | None:
        """Requests that the coordinator takes for being worked on."""
        counts = (self.archive_count, self.restore_count, self.remove_count)
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def worked_on(self) -> int | None:
        """Requests that the copytools work on; None where only some of these are known."""
        if self.copytools is None or self.agents_not_understood:
            return None
        return sum(max(0, copytool.current) for copytool in self.copytools)

    @property
    def lost(self) -> int | None:
        """Active requests that no copytool works on, where no slot is left beside them; else 0. None: not known."""
        active, worked_on = self.active, self.worked_on
        if active is None or worked_on is None or self.max_requests is None:
            return None
        return max(0, active - worked_on) if active >= self.max_requests else 0

    def __str__(self) -> str:
        """What is lost and what to do, in one line; for slots of which some are."""
        return (
            f"no slot is left (max_requests {self.max_requests}), and no copytool works on {self.lost} of the "
            f"{self.active} active requests: set hsm_control to shutdown, then to enabled, and restart the copytools"
        )
