"""The HSM coordinator of an MDT: what happens to the records of its llog as requests come and time passes."""

from __future__ import annotations

import random
from heapq import heappop, heappush
from itertools import islice, takewhile
from typing import Final

from .copytools import Copytools
from .llog import ActionsLlog
from .records import (
    CANCEL,
    CANCELED,
    FINAL_STATUSES,
    RESTORE,
    STARTED,
    SUCCEED,
    WAITING,
    FidSequence,
    Record,
    record_bytes,
)

INIT: Final = "init"
ENABLED: Final = "enabled"
STOPPING: Final = "stopping"
STOPPED: Final = "stopped"
DISABLED: Final = "disabled"
HSM_CONTROL_STATES: Final = frozenset({INIT, ENABLED, STOPPING, STOPPED, DISABLED})


class Coordinator:
    """Requests, the loop that deletes and cancels, and the list. Time stands still until `advance`.

    The tunables (`grace_delay_s` and so on) may be changed at any time. `deletions_per_loop` stands in for the seconds
    that many deletions take: a long list that is purged goes in steps, and partial lists show.
    """

    def __init__(
        self,
        rng: random.Random,
        start_time: float,
        first_sequence: int,
        *,
        grace_delay_s: int,
        loop_period_s: int,
        active_request_timeout_s: int,
        max_requests: int,
        deletions_per_loop: int,
        compound_ids: bool,
    ) -> None:
        self.now = start_time
        self.hsm_control = ENABLED
        self.grace_delay_s = grace_delay_s
        self.loop_period_s = loop_period_s
        self.active_request_timeout_s = active_request_timeout_s
        self.max_requests = max_requests
        self.deletions_per_loop = deletions_per_loop
        self._fids = FidSequence(first_sequence)
        self._llog = ActionsLlog()
        self._last_cookie = int(start_time)
        self._last_compound_id = int(start_time) if compound_ids else None
        self._next_loop_at = start_time
        self._copytools = Copytools(rng)
        # A real coordinator finds all this by scanning the llog. The dicts are ordered sets, oldest change first.
        self._waiting: list[int] = []
        self._started: dict[Record, None] = {}
        self._finished: dict[Record, None] = {}

    # Requests, as users and copytools make them

    def submit(
        self,
        action: str,
        fid: str | None = None,
        archive_id: int = 1,
        data: bytes = b"",
        flags: int = 0,
        place: tuple[int, int] | None = None,
    ) -> Record:
        """A new WAITING request, by default for a new file.

        `place` forces a place that was used before, and throws out its occupant: at once, the reuse that a wrapped
        catalog or a recreated llog brings in time.
        """
        if action == CANCEL:
            raise ValueError("a CANCEL needs its target: use cancel(record)")
        self._last_cookie = (self._last_cookie or self._cookie_at_start()) + 1
        return self._add(action, fid or self._fids.new(), self._last_cookie, archive_id, data, flags, place)

    def cancel(self, target: Record) -> Record:
        """A WAITING request to cancel another one. It carries its target's cookie, and acts when it is started."""
        record = self._add(CANCEL, target.fid, target.cookie, target.archive_id)
        record.target = target
        return record

    def start(self, record: Record) -> None:
        """The coordinator hands a request to a copytool. A RESTORE gets the volatile file that it fills as `dfid`.

        A CANCEL turns its target CANCELED; if it comes too late, it stays STARTED until the active request timeout.
        """
        self._check_live(record)
        target = record.target
        too_late = target is not None and (target not in self._llog or target.status in FINAL_STATUSES)
        if target is not None and not too_late:
            self.set_status(target, CANCELED)
        if record.action == RESTORE and record.dfid == record.fid:
            record.dfid = self._fids.new()
        self.set_status(record, STARTED)
        if not too_late:
            self._copytools.begin(record)

    def finish(self, record: Record, status: str = SUCCEED) -> None:
        """A copytool reports the end: SUCCEED, FAILED or CANCELED."""
        self._copytools.report(record, status)
        self.set_status(record, status)

    def retry(self, record: Record) -> None:
        """A copytool reports a failure that is worth another try: the request is WAITING again."""
        self.set_status(record, WAITING)

    def set_status(self, record: Record, status: str) -> None:
        """Rewrite a record in its place, with any word. Grace delay and timeout count from here."""
        self._check_live(record)
        self._forget(record)
        record.rewrite(status, self.now)
        if status == WAITING:
            heappush(self._waiting, record.key)
        elif status == STARTED:
            self._started[record] = None
        elif status in FINAL_STATUSES:
            self._finished[record] = None

    def remove(self, record: Record) -> None:
        """Delete a record at once, without waiting for its grace delay."""
        self._check_live(record)
        self._forget(record)
        self._llog.remove(record)

    # The coordinator

    def advance(self, seconds: float) -> None:
        """Let time pass: once a loop period, what is past its grace delay is deleted and what hangs is canceled."""
        self.advance_to(self.now + seconds)

    def advance_to(self, at: float) -> None:
        """`advance` to a point in time. One long step and many short ones come to the same."""
        while self.hsm_control == ENABLED and self._next_loop_at <= at:
            self.now = max(self.now, self._next_loop_at)
            self._next_loop_at = self.now + self.loop_period_s
            self._housekeeping()
        self.now = at

    def dispatch(self) -> list[Record]:
        """The coordinator looks for work: starts WAITING requests in the order of the list, up to `max_requests`."""
        started: list[Record] = []
        while self.hsm_control == ENABLED and self._waiting and len(self._copytools) < self.max_requests:
            record = self._llog.at_key(heappop(self._waiting))
            if record is not None and record.status == WAITING:
                self.start(record)
                started.append(record)
        return started

    def kill_copytools(self) -> None:
        """The copytools are killed and started again. Their requests keep the slots until the coordinator stops."""
        self._copytools.kill()

    def purge(self) -> None:
        """`hsm_control=purge`: what is not finished turns CANCELED, and goes after the grace delay like the rest."""
        for record in self._llog:
            if record.status not in FINAL_STATUSES:
                self.set_status(record, CANCELED)

    def set_hsm_control(self, state: str) -> None:
        """Put the coordinator in a state. Nothing is started or deleted in any state but `enabled`.

        `stopped` loses copytools and running requests; at the next `enabled`, RESTOREs that had started wait again.
        """
        if state not in HSM_CONTROL_STATES:
            raise ValueError(f"{state!r} is no state of hsm_control: wanted one of {sorted(HSM_CONTROL_STATES)}")
        self.hsm_control = state
        if state == STOPPED:
            self._copytools.unregister()
        elif state == ENABLED and not self._copytools.registered:
            self._restart()

    # The llog

    def open_llog(self, cat: int | None = None) -> None:
        """New records go to a new llog at the next CAT (after 64767 comes 1) or at `cat`."""
        self._llog.open(cat)

    def recreate_llog(self) -> None:
        """An administrator threw the catalog away: all records are gone, and places start at 1/1 again."""
        for record in self.records():
            self.remove(record)
        self._llog.recreate()

    # What there is to see

    def records(self) -> list[Record]:
        """The live records in the order of the listing."""
        return list(self._llog)

    def running(self) -> list[Record]:
        """The requests that copytools work on."""
        return self._copytools.running()

    def is_running(self, record: Record) -> bool:
        """Whether a copytool works on a request. STARTED alone does not say so: coordinators restart."""
        return record in self._copytools

    def __len__(self) -> int:
        return len(self._llog)

    def lines(self) -> list[bytes]:
        """The listing by lines, without newlines."""
        return [record.line for record in self._llog]

    def listing(self) -> bytes:
        """The content of `actions`."""
        return b"".join(record.rendered() for record in self._llog)

    def by_place(self) -> dict[tuple[int, int], bytes]:
        """The truth to compare with: the line at every (CAT, REC)."""
        return {record.place: record.line for record in self._llog}

    def _add(
        self,
        action: str,
        fid: str,
        cookie: int,
        archive_id: int,
        data: bytes = b"",
        flags: int = 0,
        place: tuple[int, int] | None = None,
    ) -> Record:
        if place is None:
            place = self._llog.next_place(record_bytes(data))
        elif (occupant := self._llog.at(place)) is not None:
            self.remove(occupant)
        compound_id = 0
        if self._last_compound_id is not None:
            self._last_compound_id = compound_id = self._last_compound_id + 1
        record = Record(*place, fid, fid, cookie, compound_id, action, archive_id, flags, data, WAITING, self.now)
        self._llog.add(record)
        heappush(self._waiting, record.key)
        return record

    def _housekeeping(self) -> None:
        hung_before = self.now - self.active_request_timeout_s
        for record in list(takewhile(lambda record: record.changed_at < hung_before, self._started)):
            self.set_status(record, CANCELED)
        over_before = self.now - self.grace_delay_s
        over = takewhile(lambda record: record.changed_at < over_before, self._finished)
        for record in list(islice(over, self.deletions_per_loop)):
            self.remove(record)

    def _restart(self) -> None:
        self._copytools.register()
        self._last_cookie = self._last_cookie or self._cookie_at_start()
        self._next_loop_at = self.now
        for record in self._llog:
            if record.action == RESTORE and record.status == STARTED:
                self.set_status(record, WAITING)

    def _cookie_at_start(self) -> int:
        """The largest live cookie, or the time of day: after a busy spell, an emptied list has it start lower."""
        return max((record.cookie for record in self._llog), default=int(self.now))

    def _forget(self, record: Record) -> None:
        self._started.pop(record, None)
        self._finished.pop(record, None)
        self._copytools.drop(record)

    def _check_live(self, record: Record) -> None:
        if record not in self._llog:
            raise ValueError(f"{record.action} at {record.cat}/{record.rec} is no longer in the list")
