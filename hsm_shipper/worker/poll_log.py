"""What the log says of polls: an error when it begins, now and then while it lasts, and when it is over."""

from __future__ import annotations

import logging
from pathlib import Path

from hsm_shipper.contract.stream_ids import EMPTY_ID, milliseconds_of, pack_id
from hsm_shipper.errors import ActionsError, HsmError, OutboxFull, StateError, StreamError
from hsm_shipper.process.log import RepeatedErrors
from hsm_shipper.process.output import printable
from hsm_shipper.worker.poll_result import PollResult
from hsm_shipper.worker.purge_decision import LOST_END, PurgeDecision
from hsm_shipper.worker.snapshot import Snapshot

_log = logging.getLogger(__name__)

_EXAMPLE_BYTES = 300
# Entries have the time of Redis, and a poll may end some seconds behind its last append.
_CLOCK_DIFFERENCE_S = 60.0
_STATE = "the state file"
_OUTBOX = "the outbox"
_PARTS: dict[str, type[HsmError]] = {"Redis": StreamError, _STATE: StateError, "the actions file": ActionsError}


class PollLog:
    """The log of the polls of one MDT, whose actions file is `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._errors = RepeatedErrors(_log)

    def reading(self, snapshot: Snapshot, decision: PurgeDecision, result: PollResult) -> None:
        """Say what is odd about a reading, and note it in the result."""
        path, scan, fault = self._path, snapshot.scan, snapshot.reading.fault
        if fault is not None:
            result.error = ActionsError(f"incomplete reading of {path}: {fault}", "nothing is purged on it")
        if scan.example is not None:
            example = printable(scan.example[:_EXAMPLE_BYTES].decode(errors="replace"))
            why = ", whose place another line has too" if scan.example_lacks_place else ""
            count = f"{scan.not_understood} of {scan.lines} lines of {path}"
            self._errors.failed("understanding every line", f"{count} are not understood, the first{why}: {example}")
        else:
            self._errors.worked("understanding every line")
        if decision.unconfirmed_absent and decision.doubt is not None:
            # A short list loses most of itself all the time, whenever a grace delay ends.
            _log.log(
                logging.INFO if len(decision.unconfirmed_absent) > LOST_END else logging.DEBUG,
                "%s: %d of them are purged, %d once another complete reading misses them too",
                decision.doubt,
                len(decision.purge),
                len(decision.unconfirmed_absent),
            )
        if fault is None and (decision.unconfirmed_absent or not decision.purge):
            result.remark = decision.doubt

    def poll(self, result: PollResult) -> None:
        """Say how a poll went."""
        error = result.error
        for part, kind in _PARTS.items():
            if isinstance(error, kind):
                # While records are added quickly the kernel gives EBADR now and then, twice in a row too.
                waiting = "" if result.waiting is None else f" ({result.waiting})"
                self._errors.failed(part, f"{error}{waiting}", passing=kind is ActionsError)
            elif error is None or isinstance(error, ActionsError):  # after another error it was perhaps not tried
                self._errors.worked(part)
        _log.log(logging.INFO if result.events else logging.DEBUG, "%s", result)

    def outbox(self, full: OutboxFull | None) -> None:
        """Say that what Redis does not take has no room in the outbox, or has."""
        if full is not None:
            self._errors.failed(_OUTBOX, full)
        else:
            self._errors.worked(_OUTBOX)

    def clock(self, last_id: str, now: float) -> None:
        """Say whether this server's clock, `now`, and that of Redis differ, by the id of an entry just appended."""
        if last_id == EMPTY_ID:
            return
        ahead_s = now - milliseconds_of(pack_id(last_id)) / 1000
        if abs(ahead_s) <= _CLOCK_DIFFERENCE_S:
            self._errors.worked("the clock")
            return
        how = "ahead of" if ahead_s > 0 else "behind"
        text = f"the clock of this server, whose times events have, is {abs(ahead_s):,.0f} s {how} that of Redis"
        self._errors.failed("the clock", f"{text}; set right the one that is wrong (NTP)")

    def state_error(self, error: StateError) -> None:
        """Say that the state file could not be used."""
        self._errors.failed(_STATE, error)
