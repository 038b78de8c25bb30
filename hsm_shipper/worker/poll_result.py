"""How a poll went: for the log, for a person, and for the state file."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field

from hsm_shipper.contract.event import NEW, PURGED, UPDATE
from hsm_shipper.errors import HsmError
from hsm_shipper.process.durations import in_one_unit
from hsm_shipper.state.poll_status import PollStatus


@dataclass
class PollResult:
    """How a poll went; `str()` is one line for a person."""

    mdt: str
    lines: int = 0
    live: int = 0
    not_kept: int = 0
    """Changes seen in the file that are not in the stream, and do not wait in the outbox either."""
    backlog: int = 0
    """Changes seen in the file and not in the stream yet: these, and those that wait."""
    backlog_since: int | None = None
    """When the first of those that wait was seen, in seconds since the epoch."""
    has_read: bool = False
    """Whether it came to reading the actions file, to its end or not."""
    not_understood: int = 0
    states_missed: int = 0
    events: Counter[str] = field(default_factory=Counter)
    duration_s: float = 0.0
    read_s: float = 0.0
    """How much of that the kernel took to give the actions file."""
    error: HsmError | None = None
    remark: str | None = None
    """What was odd about the reading."""
    status: PollStatus | None = None
    """What the state file remembers of it, or would if it could be written; None until the poll is over."""

    def __str__(self) -> str:
        counts = ", ".join(f"{self.events[kind]:,} {kind}" for kind in (NEW, UPDATE, PURGED))
        lines = f"{self.lines:,} lines" + (f" ({self.not_understood:,} not understood)" if self.not_understood else "")
        text = f"{self.mdt}: {lines}, {self.live:,} live, shipped {counts} in {self.duration_s:.2f} s"
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
        if not self.has_read:
            self.lines, self.backlog = before.lines, before.backlog
            self.backlog_since = None if before.backlog_since is None else int(before.backlog_since)

    def status_after(self, host: str, before: PollStatus | None) -> PollStatus:
        """What the state file remembers of this poll, its counters going on from `before`."""

        def total(name: str, more: int) -> int:
            return more + (0 if before is None else getattr(before, name))

        now = time.time()
        error, error_at = (None, None) if before is None else (before.last_error, before.last_error_at)
        if self.error is not None:
            error, error_at = str(self.error), now
        return PollStatus(
            mdt=self.mdt,
            host=host,
            pid=os.getpid(),
            polls=total("polls", 1),
            last_poll_at=now,
            last_poll_duration_s=self.duration_s,
            last_poll_read_s=self.read_s,
            lines=self.lines,
            live=self.live,
            backlog=self.backlog,
            backlog_since=self.backlog_since,
            events_new=total("events_new", self.events[NEW]),
            events_update=total("events_update", self.events[UPDATE]),
            events_purged=total("events_purged", self.events[PURGED]),
            states_missed=total("states_missed", self.states_missed),
            lines_not_understood=self.not_understood,
            last_error=error,
            last_error_at=error_at,
        )
