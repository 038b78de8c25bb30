"""How a poll went: for the log, for a person, and for the state file."""

from __future__ import annotations

import os
import time
from collections import Counter

import msgspec

from hsm_shipper.contract.event import NEW, PURGED, UPDATE
from hsm_shipper.contract.poll import Poll, told_of
from hsm_shipper.errors import HsmError
from hsm_shipper.process.durations import in_one_unit
from hsm_shipper.state.poll_status import PollStatus


class PollResult(Poll, kw_only=True):
    """A poll that is filled in while it runs; `str()` is one line for a person."""

    not_kept: int = 0
    """Changes seen in the file that are not in the stream, and do not wait in the outbox either."""
    has_read: bool = False
    """Whether it came to reading the actions file, to its end or not."""
    states_missed: int = 0
    events: Counter[str] = msgspec.field(default_factory=Counter)
    error: HsmError | None = None
    remark: str | None = None
    """What was odd about the reading."""
    status: PollStatus | None = None
    """What the state file remembers of it, or would if it could be written; None until the poll is over."""

    @classmethod
    def begun(cls, mdt: str, host: str) -> PollResult:
        """One of which nothing is known yet, in this process."""
        return cls(
            mdt=mdt,
            host=host,
            pid=os.getpid(),
            last_poll_at=time.time(),
            last_poll_duration_s=0.0,
            last_poll_read_s=0.0,
            lines=0,
            lines_not_understood=0,
            live=0,
            backlog=0,
        )

    def __str__(self) -> str:
        counts = ", ".join(f"{self.events[kind]:,} {kind}" for kind in (NEW, UPDATE, PURGED))
        strange = f" ({self.lines_not_understood:,} not understood)" if self.lines_not_understood else ""
        lines = f"{self.lines:,} lines{strange}"
        text = f"{self.mdt}: {lines}, {self.live:,} live, shipped {counts} in {self.last_poll_duration_s:.2f} s"
        for addition in (self.waiting, self.remark, self.error):
            if addition is not None:
                text += f"; {addition}"
        return text

    @property
    def waiting(self) -> str | None:
        """What is not in the stream yet, in words; None where all is."""
        if not self.backlog:
            return None
        since = ""
        if self.backlog_since is not None:
            since = f", the first for {in_one_unit(max(0.0, time.time() - self.backlog_since))}"
        counted = f"; {self.not_kept:,} of them are counted only" if self.not_kept else ""
        return f"{self.backlog:,} changes wait for Redis{since}{counted}"

    def hold_over(self, before: PollStatus) -> None:
        """Tell further what the last poll knew, where this one had no state file to know it from."""
        self.live = before.live
        self.backlog, self.backlog_since = max(self.backlog, before.backlog), before.backlog_since
        if not self.has_read:
            self.lines = before.lines

    def status_after(self, before: PollStatus | None) -> PollStatus:
        """What the state file remembers of this poll, its counters going on from `before`."""

        def total(name: str, more: int) -> int:
            return more + (0 if before is None else getattr(before, name))

        error, error_at = (None, None) if before is None else (before.last_error, before.last_error_at)
        if self.error is not None:
            error, error_at = str(self.error), self.last_poll_at
        return PollStatus(
            **told_of(self),
            polls=total("polls", 1),
            events_new=total("events_new", self.events[NEW]),
            events_update=total("events_update", self.events[UPDATE]),
            events_purged=total("events_purged", self.events[PURGED]),
            states_missed=total("states_missed", self.states_missed),
            last_error=error,
            last_error_at=error_at,
        )
