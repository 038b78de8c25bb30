"""One poll of one MDT: read the actions file, find what is new, decide what is gone, ship it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hsm_shipper.contract.live_action import ActionState
from hsm_shipper.errors import (
    ActionsError,
    EntriesLost,
    HsmError,
    StateChanged,
    StateCorrupt,
    StateError,
    StreamError,
    StreamMoved,
)
from hsm_shipper.lustre.actions_file import ActionsFile, Reading
from hsm_shipper.process.batched import batched
from hsm_shipper.process.log import RepeatedErrors, printable
from hsm_shipper.state.poll_status import PollStatus
from hsm_shipper.worker.changes import Change, ChangeWriter, same_action
from hsm_shipper.worker.missed_states import Outage
from hsm_shipper.worker.poll_result import PollResult
from hsm_shipper.worker.replica import Belief
from hsm_shipper.worker.snapshot_diff import HELD_OPEN_MAX, LOST_END, HeldLines, NewLine, Survey, Verdict, judge

_log = logging.getLogger(__name__)

# One call of the script: 1,000 events of 500 B hold the server for 3 to 4 ms, and no reply is worth more.
BATCH_EVENTS = 1000
BATCH_BYTES = 1024 * 1024
_ATTEMPTS = 2  # a second mismatch waits for the next poll: somebody else is writing, and reading costs the MDS
_NOT_READY = frozenset({"init", "stopping"})
_EXAMPLE_BYTES = 300
# A line that changed and kept its status is rare: so many of them are asked of the stream in a poll, for it may be our
# row that changed. Where there are more, it is the kernel that prints another line.
_ODD_CHANGES_CHECKED = 10


_STATE = "the state file"
_PARTS: dict[str, type[HsmError]] = {"Redis": StreamError, _STATE: StateError, "the actions file": ActionsError}


@dataclass
class _Pass:
    """One reading in the making."""

    reading: Reading
    survey: Survey
    not_ready: str | None
    held: HeldLines = field(default_factory=HeldLines)
    before: dict[int, ActionState] | None = None
    """What was known to be in the places of the held lines, where there are not too many of them."""


class Poller:
    """Polls one MDT. `coordinator` tells `hsm_control`, None where it cannot be read."""

    def __init__(
        self,
        actions_file: ActionsFile,
        belief: Belief,
        writer: ChangeWriter,
        coordinator: Callable[[], str | None],
    ) -> None:
        self._actions_file = actions_file
        self._belief = belief
        self._writer = writer
        self._coordinator = coordinator
        self._outage = Outage()
        self._listings_are_sorted = True
        self._errors = RepeatedErrors(_log)
        self._status: PollStatus | None = None  # of the last poll: for the heartbeat, when the state file has none

    def poll(self) -> PollResult:
        """Poll once. Whatever fails is in the result and the log, never raised: polling goes on."""
        result = PollResult(self._writer.mdt)
        begun = time.monotonic()
        self._belief.shipped.clear()
        try:
            self._settle(result)
        except HsmError as error:
            result.error = error
        result.events.update(self._belief.shipped)
        if self._belief.is_open:
            result.live = len(self._belief.known)
        elif self._status is not None:
            result.hold_over(self._status)
        result.duration_s = time.monotonic() - begun
        self._tell(result)
        self._save_status(result)
        return result

    def _settle(self, result: PollResult) -> None:
        """Read and ship; what turns out to be computed from what is true no more is thrown away and read again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._belief.open()
                self._attempt(result)
                return
            except (StreamMoved, StateChanged) as error:
                if attempt == _ATTEMPTS:
                    raise
                level = logging.WARNING if isinstance(error, EntriesLost) else logging.INFO
                _log.log(level, "%s: catching up", error)
            except StateCorrupt as damage:
                if attempt == _ATTEMPTS:
                    raise
                _log.error("%s", damage)

    def _attempt(self, result: PollResult) -> None:
        result.error = result.remark = None
        trouble: StreamError | None = None
        try:
            self._belief.synchronise()
            self._outage.delivered(self._belief.known.slots)
        except StreamError as error:
            trouble = error
        survey = Survey(self._belief.known, self._listings_are_sorted)
        current = _Pass(self._actions_file.read(), survey, self._not_ready())
        # Without Redis the file is read all the same: the states that come and go meanwhile are counted.
        trouble = self._read(current, result, trouble)
        verdict, replaced = self._decide(current, result)
        if trouble is None:
            try:
                self._ship(current, verdict, replaced)
            except StreamMoved:
                raise
            except StreamError as error:
                trouble = error
        if trouble is not None:
            self._note_outage(current)
            result.backlog = len(current.held) + len(replaced) + len(verdict.purge)
            raise trouble
        if current.reading.fault is None:
            self._end_outage(result)

    def _read(self, current: _Pass, result: PollResult, trouble: StreamError | None) -> StreamError | None:
        """Run the file past what is known; returns what kept events from being shipped.

        New lines are held to the end of the file, for the purges go first in a poll. Where nothing is known yet there
        is nothing to purge, and a long list need not wait in memory: it is shipped chunk by chunk.
        """
        streaming = not self._belief.known
        in_flight: list[NewLine] = []
        last_place = -1
        for lines in current.reading:
            fresh = current.survey.take(lines)
            if streaming and trouble is None and fresh and _ascends(fresh, last_place):
                trouble = self._stream_new(fresh, int(current.reading.taken_at))
                if trouble is None:
                    last_place = fresh[-1].record.place
                    in_flight = fresh
                    continue
                fresh = [new for new in in_flight if new.digest not in self._belief.known.slots] + fresh
            current.held.extend(current.survey.claim(fresh))
        result.lines, result.has_read = current.survey.lines, True
        return self._stream_new([], 0) if trouble is None else trouble

    def _stream_new(self, fresh: list[NewLine], timestamp: int) -> StreamError | None:
        """Begin to ship lines of a listing of which nothing is known; without any, settle the ones before."""
        try:
            if fresh:
                self._belief.ship([self._writer.state(new, None, timestamp) for new in fresh])
            else:
                self._belief.settle()
        except StreamMoved:
            raise
        except StreamError as error:
            return error
        return None

    def _decide(self, current: _Pass, result: PollResult) -> tuple[Verdict, set[int]]:
        """What is believed gone, and the places where the listing holds another action than the stream does."""
        replaced = self._replaced(current)
        survey, fault = current.survey, current.reading.fault
        not_ready = current.not_ready or self._not_ready()  # it may have begun to stop while we read
        verdict = judge(survey, self._belief.missed, fault=fault, coordinator=not_ready)
        self._listings_are_sorted = survey.listings_are_sorted
        result.not_understood = survey.not_understood
        self._remark(current, verdict, result)
        return verdict, replaced

    def _replaced(self, current: _Pass) -> set[int]:
        places = set()
        befores: dict[int, ActionState] = {}
        for new, before in self._held_with_rows(current):
            if before is None:
                continue
            if self._belief.is_seen(before):
                current.survey.puzzle(new.line)  # a second line for the place of one that has not changed
            elif not same_action(before, new.record):
                places.add(new.record.place)
                continue  # purged before any line is looked at again
            if len(current.held) <= HELD_OPEN_MAX:
                befores[new.record.place] = before
        current.before = befores if len(current.held) <= HELD_OPEN_MAX else None
        return places

    def _ship(self, current: _Pass, verdict: Verdict, replaced: set[int]) -> None:
        timestamp = int(current.reading.taken_at)
        gone = sorted(replaced | verdict.purge)
        self._ship_all(self._purges(gone, timestamp))
        self._ship_all(self._states(current, timestamp))
        if not self._belief.shipped:
            self._belief.compare()
        self._belief.remember_missed(verdict.missed)

    def _purges(self, places: list[int], timestamp: int) -> Iterator[Change]:
        for some in batched(places, BATCH_EVENTS):
            rows = self._belief.actions_at(some)
            for place in some:
                yield self._writer.purged(rows[place], timestamp)

    def _states(self, current: _Pass, timestamp: int) -> Iterator[Change]:
        to_check = _ODD_CHANGES_CHECKED
        for new, before in self._held_with_rows(current):
            if before is None or not (self._belief.is_seen(before) or self._is_said(new, before)):
                if to_check and before is not None and _kept_its_status(new, before):
                    self._belief.check_line(before)
                    to_check -= 1
                yield self._writer.state(new, before, timestamp)

    def _is_said(self, new: NewLine, before: ActionState) -> bool:
        """Whether the stream holds this very line in this very place, and need not say it again."""
        return before.digest == new.digest and before.place not in self._belief.marked

    def _held_with_rows(self, current: _Pass) -> Iterator[tuple[NewLine, ActionState | None]]:
        """The held lines, each with what is known to be in its place."""
        for some in batched(current.held, BATCH_EVENTS):
            rows = current.before
            if rows is None:
                rows = self._belief.actions_at([new.record.place for new in some])
            for new in some:
                yield new, rows.get(new.record.place)

    def _ship_all(self, changes: Iterator[Change]) -> None:
        batch: list[Change] = []
        size_bytes = 0
        for change in changes:
            batch.append(change)
            size_bytes += len(change.payload or b"")
            if len(batch) >= BATCH_EVENTS or size_bytes >= BATCH_BYTES:
                self._belief.ship(batch)
                batch, size_bytes = [], 0
        if batch:
            self._belief.ship(batch)
        self._belief.settle()

    def _not_ready(self) -> str | None:
        """The coordinator's state where it makes every listing doubtful."""
        state = self._coordinator()
        return state if state in _NOT_READY else None

    def _note_outage(self, current: _Pass) -> None:
        shipped = self._belief.known.slots
        unshipped = {new.digest for new in current.held if new.digest not in shipped}
        self._outage.failed(unshipped, shipped, complete=current.reading.fault is None)

    def _end_outage(self, result: PollResult) -> None:
        if not self._outage.polls:
            return
        self._outage.ended(self._belief.known.slots)
        result.states_missed = self._outage.states_missed
        _log.warning(
            "stream and file are in step again after %d polls without Redis: %d states of actions came and went "
            "meanwhile and are in no stream",
            self._outage.polls,
            self._outage.states_missed,
        )
        self._outage = Outage()

    def _remark(self, current: _Pass, verdict: Verdict, result: PollResult) -> None:
        """Say, at a low rate, what is odd about a reading."""
        path, survey, fault = self._actions_file.path, current.survey, current.reading.fault
        if fault is not None:
            result.error = ActionsError(f"incomplete reading of {path}: {fault}", "nothing is purged on it")
        if survey.example is not None:
            example = printable(survey.example[:_EXAMPLE_BYTES].decode(errors="replace"))
            text = f"{survey.not_understood} of {survey.lines} lines of {path} are not understood, the first: {example}"
            self._errors.failed("understanding every line", text)
        else:
            self._errors.worked("understanding every line")
        if verdict.missed and verdict.doubt is not None:
            # A short list loses most of itself all the time, whenever a grace delay ends.
            _log.log(
                logging.INFO if len(verdict.missed) > LOST_END else logging.DEBUG,
                "%s: %d of them are purged, %d once another complete reading misses them too",
                verdict.doubt,
                len(verdict.purge),
                len(verdict.missed),
            )
        if fault is None and (verdict.missed or not verdict.purge):
            result.remark = verdict.doubt

    def _tell(self, result: PollResult) -> None:
        error = result.error
        for part, kind in _PARTS.items():
            if isinstance(error, kind):
                # While records are added quickly the kernel gives EBADR now and then, twice in a row too.
                self._errors.failed(part, error, passing=kind is ActionsError)
            elif error is None or isinstance(error, ActionsError):  # after another error it was perhaps not tried
                self._errors.worked(part)
        _log.log(logging.INFO if result.events else logging.DEBUG, "%s", result)

    def _save_status(self, result: PollResult) -> None:
        host, before = self._writer.host, self._status
        is_open = self._belief.is_open  # if it is not, that is what the error is about
        try:
            if is_open:
                before = self._belief.saved_status()
            result.status = result.status_after(host, before)
            if is_open:
                self._belief.save_status(result.status)
        except StateError as error:
            if result.error is None:
                result.error = error
            self._errors.failed(_STATE, error)
            result.status = result.status_after(host, before)
        self._status = result.status


def _kept_its_status(new: NewLine, before: ActionState) -> bool:
    """Whether a line changed, but not in its status."""
    return before.status == new.record.status and before.digest != new.digest


def _ascends(fresh: list[NewLine], last_place: int) -> bool:
    """Whether places only grow, as the kernel sorts them: then none of them can come twice."""
    for new in fresh:
        if new.record.place <= last_place:
            return False
        last_place = new.record.place
    return True
