"""One poll of one MDT: read the actions file, find what is new, decide what is gone, ship it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from heapq import merge

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.errors import (
    EntriesLost,
    HsmError,
    OutboxFull,
    StateChanged,
    StateCorrupt,
    StateError,
    StreamError,
    StreamMoved,
    to_keep,
)
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.process.batched import batched
from hsm_shipper.state.poll_status import PollStatus
from hsm_shipper.worker.batch_size import BATCH_EVENTS
from hsm_shipper.worker.changes import Change, ChangeWriter
from hsm_shipper.worker.held_lines import NewLine
from hsm_shipper.worker.listing_scan import ListingScan
from hsm_shipper.worker.missed_states import MissedStates
from hsm_shipper.worker.poll_log import PollLog
from hsm_shipper.worker.poll_result import PollResult
from hsm_shipper.worker.purge_decision import decide_purges
from hsm_shipper.worker.snapshot import Snapshot, ascends, new_lines_of
from hsm_shipper.worker.stream_replica import StreamReplica

_log = logging.getLogger(__name__)

_ATTEMPTS = 2  # a second mismatch waits for the next poll: somebody else is writing, and reading costs the MDS
_NOT_READY = frozenset({"init", "stopping"})
# A line that changed and kept its status is rare: so many of them are asked of the stream in a poll, for it may be our
# row that changed. Where there are more, it is the kernel that prints another line.
_ODD_CHANGES_CHECKED = 10


class Poller:
    """Polls one MDT. `coordinator` tells `hsm_control`, None where it cannot be read."""

    def __init__(
        self,
        actions_file: ActionsFile,
        replica: StreamReplica,
        writer: ChangeWriter,
        coordinator: Callable[[], str | None],
    ) -> None:
        self._actions_file = actions_file
        self._replica = replica
        self._writer = writer
        self._coordinator = coordinator
        self._outage = MissedStates()
        self._listings_are_sorted: bool | None = None  # until something is known of them
        self._poll_log = PollLog(actions_file.path)
        self._status: PollStatus | None = None  # of the last poll: for the heartbeat, when the state file has none

    def poll(self) -> PollResult:
        """Poll once. Whatever fails is in the result and the log, never raised: polling goes on."""
        result = PollResult.begun(self._writer.mdt, self._writer.host)
        begun, read_s_before = time.monotonic(), self._actions_file.read_s
        self._replica.shipped.clear()
        try:
            self._settle(result)
        except HsmError as error:
            result.error = to_keep(error)
        result.events.update(self._replica.shipped)
        if result.events:
            self._poll_log.clock(self._replica.appended_to, time.time())
        result.states_missed += self._outage.take_new()
        result.backlog = result.not_kept
        if self._replica.is_open:
            result.live = len(self._replica.line_index)
            result.backlog += self._replica.waiting.events
            result.backlog_since = self._replica.waiting_since
        elif self._status is not None:
            result.hold_over(self._status)
        result.last_poll_at, result.last_poll_duration_s = time.time(), time.monotonic() - begun
        result.last_poll_read_s = self._actions_file.read_s - read_s_before
        self._poll_log.poll(result)
        self._save_status(result)
        return result

    def _settle(self, result: PollResult) -> None:
        """Read and ship; what turns out to be computed from what is true no more is thrown away and read again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._replica.open()
                snapshot = self._attempt(result)
                # What a held descriptor gave before it failed is shipped by now: a fresh one may give the rest.
                if not snapshot.reading.broke_off_held:
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

    def _attempt(self, result: PollResult) -> Snapshot:
        """Read, decide, ship. Without Redis the file is read all the same: what it says waits in the outbox."""
        result.error = result.remark = None
        result.not_kept = 0
        snapshot: Snapshot | None = None
        try:
            self._replica.catch_up()
            self._outage.dropped(*self._replica.outbox.take_missed())
            self._outage.delivered(self._replica.line_index)
            if self._listings_are_sorted is None:
                self._listings_are_sorted = self._replica.were_listings_sorted()
            snapshot = self._begin()
            self._read(snapshot)
            self._decide(snapshot, result)
            self._ship(snapshot)
            snapshot.scan.keep_blocks()
        except StreamMoved:
            raise
        except (StreamError, OutboxFull):
            self._keep(snapshot or self._begin(), result)
            raise
        if snapshot.reading.fault is None and not self._replica.waiting.events:
            self._end_outage(result)
        return snapshot

    def _begin(self) -> Snapshot:
        reading = self._actions_file.read()
        is_sorted = self._listings_are_sorted
        if is_sorted is None and self._replica.is_filled:  # without Redis too
            is_sorted = self._replica.were_listings_sorted()
        scan = ListingScan(self._replica.line_index, is_sorted is not False)
        return Snapshot(reading, scan, self._not_ready(), new_lines_of(reading, scan), self._replica.actions_at)

    def _read(self, snapshot: Snapshot) -> None:
        """Run the file past what is known. Where nothing is, it is shipped meanwhile."""
        if self._replica.line_index:
            snapshot.hold_rest()
        else:
            self._ship_first_listing(snapshot)

    def _ship_first_listing(self, snapshot: Snapshot) -> None:
        """Ship a listing of which nothing is known chunk by chunk: there is nothing to purge, and it may be long."""
        on_its_way: list[NewLine] = []
        last_place = -1
        for new in snapshot.new_lines:
            if not new:
                continue
            if not ascends(new, last_place):  # a place may come twice: all of them have to be seen first
                snapshot.hold(new)
                continue
            timestamp = int(snapshot.reading.taken_at)
            try:
                self._ship_states(new, timestamp)
            except (StreamError, OutboxFull):
                snapshot.hold(self._not_shipped(on_its_way + new))
                raise
            last_place, on_its_way = new[-1].record.place, new
        try:
            self._replica.settle()
        except StreamError:
            snapshot.hold(self._not_shipped(on_its_way))
            raise

    def _ship_states(self, lines: list[NewLine], timestamp: int) -> None:
        at = 0
        while at < len(lines):
            some = lines[at : at + self._replica.batch.events]
            self._ship_batch([self._writer.state(line, None, timestamp) for line in some])
            at += len(some)

    def _not_shipped(self, lines: Iterable[NewLine]) -> list[NewLine]:
        return [new for new in lines if new.digest not in self._replica.line_index]

    def _decide(self, snapshot: Snapshot, result: PollResult) -> None:
        """What is believed gone, and where the listing holds another action than the stream does."""
        if not snapshot.scan.ascends:
            snapshot.look_again(self._replica.is_seen)
        scan, fault = snapshot.scan, snapshot.reading.fault
        not_ready = snapshot.not_ready or self._not_ready()  # it may have begun to stop while we read
        unconfirmed = self._replica.unconfirmed_absent
        snapshot.decision = decide_purges(scan, unconfirmed, fault=fault, coordinator=not_ready)
        if self._listings_are_sorted is not None or not scan.listings_are_sorted:
            self._listings_are_sorted = scan.listings_are_sorted  # without Redis a first reading does not tell it
        result.lines, result.has_read, result.lines_not_understood = scan.lines, True, scan.not_understood
        self._poll_log.reading(snapshot, snapshot.decision, result)

    def _ship(self, snapshot: Snapshot) -> None:
        assert snapshot.decision is not None, "_decide() comes first"
        timestamp = int(snapshot.reading.taken_at)
        gone = merge(snapshot.replaced, snapshot.decision.purge)
        self._ship_all(self._purges(gone, timestamp))
        self._ship_all(self._states(snapshot, timestamp))
        if not self._replica.shipped:
            self._replica.compare()
        self._replica.remember_unconfirmed(snapshot.decision.unconfirmed_absent)

    def _purges(self, places: Iterable[int], timestamp: int) -> Iterator[Change]:
        for some in batched(places, BATCH_EVENTS):
            rows = self._replica.actions_at(some)
            for place in some:
                yield self._writer.purged(rows[place], timestamp)

    def _states(self, snapshot: Snapshot, timestamp: int) -> Iterator[Change]:
        to_check = _ODD_CHANGES_CHECKED
        for new, before in snapshot.held:
            if before is None or not self._is_said(new, before):
                if to_check and before is not None and _kept_its_status(new, before):
                    self._replica.check_line(before)
                    to_check -= 1
                yield self._writer.state(new, before, timestamp)

    def _is_said(self, new: NewLine, before: ActionState) -> bool:
        """Whether the stream holds this very line in this very place, and need not say it again."""
        return before.digest == new.digest and before.place not in self._replica.refresh_pending

    def _ship_all(self, changes: Iterator[Change]) -> None:
        batch: list[Change] = []
        size_bytes = 0
        limit = self._replica.batch
        events_max, bytes_max = limit.events, limit.payload_bytes
        for change in changes:
            batch.append(change)
            size_bytes += len(change.payload or b"")
            if len(batch) >= events_max or size_bytes >= bytes_max:
                self._ship_batch(batch)
                batch, size_bytes = [], 0
                events_max, bytes_max = limit.events, limit.payload_bytes
        if batch:
            self._ship_batch(batch)
        self._replica.settle()

    def _ship_batch(self, changes: list[Change]) -> None:
        self._replica.ship(changes)
        if self._replica.batch.is_to_be_timed():
            self._replica.settle()

    def _not_ready(self) -> str | None:
        """The coordinator's state where it makes every listing doubtful."""
        state = self._coordinator()
        return state if state in _NOT_READY else None

    def _keep(self, snapshot: Snapshot, result: PollResult) -> None:
        """Redis does not take what this reading says: it waits in the outbox, and what has no room there is counted."""
        snapshot.hold_rest()
        if snapshot.decision is None:
            self._decide(snapshot, result)
        else:
            self._leave_out_known(snapshot)
        assert snapshot.decision is not None
        unshipped: set[bytes] = set()
        if not self._waits(snapshot):
            news = self._not_shipped(new for new, before in snapshot.held if not _is_in_stream(new, before))
            unshipped = {new.digest for new in news}
            result.not_kept = len(unshipped) + len(snapshot.replaced) + len(snapshot.decision.purge)
            self._replica.forget_unconfirmed(snapshot.decision.unconfirmed_absent)
        self._outage.dropped(*self._replica.outbox.take_missed())
        self._outage.failed(unshipped, self._replica.line_index, complete=snapshot.reading.fault is None)

    def _waits(self, snapshot: Snapshot) -> bool:
        """Whether all that a reading says waits in the outbox by now."""
        if not self._replica.keep_changes():
            return False
        try:
            self._ship(snapshot)
        except OutboxFull as full:
            self._poll_log.outbox(full)
            self._leave_out_known(snapshot)
            return False
        if not self._replica.outbox.is_full:  # else there was nothing to keep
            self._poll_log.outbox(None)
        snapshot.scan.keep_blocks()
        return True

    def _leave_out_known(self, snapshot: Snapshot) -> None:
        """What of a reading is in the stream or the outbox by now needs to be said no more."""
        assert snapshot.decision is not None
        snapshot.look_again(lambda _: False)
        purge = snapshot.decision.purge & snapshot.scan.missing()
        snapshot.decision = replace(snapshot.decision, purge=purge)

    def _end_outage(self, result: PollResult) -> None:
        self._poll_log.outbox(None)
        self._outage.sent += self._replica.outbox.take_sent()
        if not self._outage:
            return
        self._outage.ended(self._replica.line_index)
        result.states_missed += self._outage.take_new()
        _log.warning(
            "stream and file are in step again after %d polls without Redis: %d events that waited are appended, "
            "%d states of actions came and went meanwhile and are in no stream",
            self._outage.polls,
            self._outage.sent,
            self._outage.states_missed,
        )
        self._outage = MissedStates()

    def _save_status(self, result: PollResult) -> None:
        before = self._status
        is_open = self._replica.is_open  # if it is not, that is what the error is about
        try:
            if is_open:
                before = self._replica.saved_status()
            result.status = result.status_after(before)
            if is_open:
                self._replica.save_status(result.status)
        except StateError as error:
            if result.error is None:
                result.error = to_keep(error)
            self._poll_log.state_error(error)
            result.status = result.status_after(before)
        self._status = result.status


def _is_in_stream(new: NewLine, before: ActionState | None) -> bool:
    """Whether the stream holds the state of a line that is looked at all the same: marked, or without an MD5 there."""
    return before is not None and (
        before.digest == new.digest or (before.digest is None and before.status == new.record.status)
    )


def _kept_its_status(new: NewLine, before: ActionState) -> bool:
    """Whether a line changed, but not in its status."""
    return before.status == new.record.status and before.digest != new.digest
