"""What the stream says, as this host knows it: state file, memory and stream position, kept in step.

The one place where a change becomes real: appended if the stream is where we left it, and only then committed to the
state file together with the new position, and only then remembered. Whatever fails between these steps shows as a
mismatch, and `catch_up` folds what the stream really says. What is found while Redis is away waits in the state file
(`outbox`), and what is known here is what the stream will say with it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from hsm_shipper.contract.action_state import UNKNOWN_ENTRY, ActionState
from hsm_shipper.contract.event import decode
from hsm_shipper.contract.stream_head import Head, has_losses
from hsm_shipper.contract.stream_ids import EMPTY_ID
from hsm_shipper.errors import (
    EntriesLost,
    MalformedEvent,
    OutboxFull,
    ReplayOvertaken,
    StateChanged,
    StateCorrupt,
    StateError,
    StateUnwritable,
    StreamError,
)
from hsm_shipper.state.damage import set_aside
from hsm_shipper.state.outbox_rows import OutboxSum
from hsm_shipper.state.poll_status import PollStatus
from hsm_shipper.state.state_file import StateFile, open_state_file
from hsm_shipper.stream.compare_and_append import PendingAppend
from hsm_shipper.stream.replay import REPLAYS_MAX
from hsm_shipper.stream.stream import ActionStream
from hsm_shipper.worker.batch_size import BatchSize, held_s
from hsm_shipper.worker.catch_up_report import CaughtUp
from hsm_shipper.worker.changes import Change, rows_of
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_scan import FEW_LINES, were_sorted
from hsm_shipper.worker.outbox import USUAL_BOUND, Outbox, OutboxBound, OutboxMatch, actions_once_sent
from hsm_shipper.worker.unconfirmed import Unconfirmed

_log = logging.getLogger(__name__)


class _Flight(NamedTuple):
    changes: Sequence[Change]
    pending: PendingAppend


class StreamReplica:
    """The live actions of one MDT by its stream. Raises `StateError` and `StreamError`.

    Each failure leads back to what is certain::

        closed ──open()──▶ loaded ──catch_up()──▶ in step ⟲ ship(), settle(), compare()
                             ⟲ keep_changes(), ship(): without Redis what is shipped waits
          ▲                  ▲ ▲                     │ │
          │                  │ └──StateChanged───────┘ │   somebody committed to the file: it is loaded anew
          │                  └────StreamError──────────┤   with EntriesLost its position is forgotten as well
          └───────────────────────StateError───────────┘   with StateCorrupt the file is set aside
    """

    def __init__(self, state_path: Path, stream: ActionStream, host: str, bound: OutboxBound = USUAL_BOUND) -> None:
        """`bound` is how much may wait while Redis is away."""
        self._state_path = state_path
        self._stream = stream
        self._host = host
        self._state_file: StateFile | None = None
        self._head: Head | None = None
        self._in_step = False
        self._follows = False  # whether the outbox is known to go on from the live actions
        self._flight: _Flight | None = None
        self.shipped: Counter[str] = Counter()
        """Settled changes by kind, until the poller clears it."""
        self.batch = BatchSize()
        """How much to ship at once."""
        self.outbox = Outbox(bound)
        self.line_index = LineIndex()
        self._unconfirmed = Unconfirmed()
        self.refresh_pending: set[int] = set()
        """Places of actions whose state is to be appended again."""

    @property
    def is_open(self) -> bool:
        """Whether there is a state file to write to."""
        return self._state_file is not None

    @property
    def waiting(self) -> OutboxSum:
        """What waits in the outbox; nothing that is known without a state file."""
        return OutboxSum() if self._state_file is None else self._state_file.outbox

    @property
    def waiting_since(self) -> int | None:
        """When the first of that was seen, in seconds since the epoch; None where nothing waits."""
        return None if self._state_file is None else self._state_file.outbox_since

    @property
    def unconfirmed_absent(self) -> Set[int]:
        """Places that the last complete reading missed without being believed."""
        return self._unconfirmed.places

    @property
    def is_filled(self) -> bool:
        """Whether it is known what the stream said last."""
        return self._head is not None

    @property
    def appended_to(self) -> str:
        """The id that the stream gave last, as far as it is known."""
        return EMPTY_ID if self._head is None else self._head.last_id

    @property
    def _opened(self) -> StateFile:
        """The open state file."""
        assert self._state_file is not None, "open() comes first"
        return self._state_file

    def open(self) -> None:
        """Open the state file, or again if somebody replaced it; a broken one is set aside."""
        if self._state_file is not None and not self._state_file.is_current():
            _log.warning("state file %s was removed or replaced: it is opened anew", self._state_path)
            if self.waiting.events:
                _log.warning("%d events that waited in state file %s are lost", self.waiting.events, self._state_path)
            self.close()
        if self._state_file is None:
            self._state_file, remark = open_state_file(self._state_path)
            if remark is not None:
                _log.error("%s", remark)
            with self._guarded():
                self._load()
            return
        with self._guarded():
            if self._state_file.is_changed():
                self._load()

    def close(self) -> None:
        """Let go of the state file; `open` starts from what is in it."""
        if self._state_file is not None:
            self._state_file.close()
        self._abandon()
        self._state_file, self._head, self._in_step = None, None, False
        self.line_index, self.refresh_pending = LineIndex(), set()
        self._unconfirmed.load(set())

    def catch_up(self) -> None:
        """Make sure that we are where the stream is, folding what it has said without us, and append what waits.

        Where that takes too long, what is left waits on, and so does what is shipped: see `OutboxBound`.
        """
        if self._in_step:
            return
        self.outbox.takes_changes = False
        with self._guarded():
            self._drop_what_does_not_follow()
            head = self._stream.head()
            if self._head is None or head.end != self._head.end:
                self._stream.confirm_kept()  # first: while it is not, nobody has to read a long stream at each poll
                self._fold(head)
            elif self._has_losses(head):
                _log.warning("%s: it is read from its beginning", self._stream.entries_lost(head))
                self._stream.confirm_kept()
                self._head = None
                self._fold(head)
            else:
                self._remember(head)
            self._send_outbox()
            if not self.waiting.events:
                self.outbox.give_back(self._opened)
        self.outbox.takes_changes = self.waiting.events > 0
        self._in_step = not self.outbox.takes_changes

    def keep_changes(self) -> bool:
        """Have what is shipped wait in the outbox, until the next `catch_up`; False where that is not possible.

        It needs to be known what the stream said last. `ship` raises `OutboxFull` where there is no room.
        """
        self.outbox.takes_changes = self.is_filled and not self.outbox.bound.is_off
        return self.outbox.takes_changes

    def ship(self, changes: Sequence[Change]) -> None:
        """Begin to ship a batch, having settled the one before: the server appends while the next one is prepared.

        Raises `StreamMoved` or `StateChanged` where the changes were computed from what is true no more.
        """
        if self.outbox.takes_changes:
            self._keep(changes)
            return
        self.settle()
        assert self._head is not None, "catch_up() comes first"
        payloads = [change.payload for change in changes if change.payload is not None]
        with self._guarded():
            self._flight = _Flight(changes, self._stream.start_append(self._head, payloads))

    def settle(self) -> None:
        """Wait for the batch on its way, and make it what is known."""
        if self._flight is None:
            return
        flight, self._flight = self._flight, None
        with self._guarded():
            head = flight.pending.finish()
            held = held_s(flight.pending.reply_s, flight.pending.waited_s, self._stream.round_trip_s)
            self.batch.fit(len(flight.changes), held)
            self._refuse_losses(flight.pending.found)
            _note_entries(flight)
            refreshed = self._refreshed(flight.changes)
            with self._opened.transaction():
                self._opened.apply(*rows_of(flight.changes), head)
                self._opened.unmark(refreshed)
        self._head = head
        self._know(flight.changes, refreshed)
        self.shipped.update(change.kind for change in flight.changes)

    def _keep(self, changes: Sequence[Change]) -> None:
        """Have changes wait in the outbox, and make them what is known."""
        assert self._head is not None, "keep_changes() comes first"
        refreshed = self._refreshed(changes)
        with self._guarded():
            try:
                with self._opened.transaction():
                    self.outbox.keep(self._opened, changes)
                    self._opened.apply(*rows_of([change for change in changes if change.payload is None]), self._head)
                    self._opened.unmark(refreshed)
            except StateUnwritable as error:
                self.outbox.is_full = True
                raise OutboxFull(f"what Redis does not take cannot wait: {error.message}", error.hint) from error
        self._know(changes, refreshed)

    def _refreshed(self, changes: Sequence[Change]) -> set[int]:
        pending = self.refresh_pending
        return {change.place for change in changes} & pending if pending else pending

    def _know(self, changes: Sequence[Change], refreshed: set[int]) -> None:
        """Remember changes that are committed."""
        self.refresh_pending -= refreshed
        left, entered = rows_of(changes)
        self.line_index.drop_all([action.place for action in left], [action.digest for action in left])
        self.line_index.add_all([action.place for action in entered], [action.digest for action in entered])

    def _send_outbox(self) -> None:
        """Append what waits, for as long as a poll may take for it."""
        until = time.monotonic() + self.outbox.bound.send_s
        while self.waiting.events:
            assert self._head is not None, "nothing waits before the first catch-up"
            self._head, kinds = self.outbox.send_batch(
                self._opened, self._stream, self._head, self.batch, self._refuse_losses
            )
            self.shipped.update(kinds)
            if time.monotonic() >= until:
                break

    def _drop_what_does_not_follow(self) -> None:
        """Let nothing wait that was computed from what is known no more: somebody has corrected the live actions."""
        if self._follows or self._head is None:
            return
        self._follows = self._opened.outbox_follows()
        if self._follows:
            return
        with self.outbox.transaction(self._opened):
            self.outbox.drop(self._opened, "the live actions in it were corrected meanwhile")
            self._opened.set_position(self._head)
        self._load()

    def compare(self) -> None:
        """Look that the stream is still as we left it, and may be written; raises `StreamMoved` if it is not.

        Not while changes wait: the next `catch_up` looks.
        """
        if self.outbox.takes_changes:
            return
        assert self._head is not None, "catch_up() comes first"
        with self._guarded():
            head = self._stream.compare(self._head)
            self._refuse_losses(head)
            self._remember(head)

    def remember_unconfirmed(self, places: Set[int]) -> None:
        """Keep the places that a reading missed for the next one, whoever makes it.

        Where they cannot be written, the state file stays open, as for `save_status`.
        """
        self._unconfirmed.narrow(places)
        if not self._unconfirmed.is_stored(places):
            with self._guarded(StateUnwritable):
                self._opened.set_missed(places)
        self._unconfirmed.store(places)

    def forget_unconfirmed(self, but: Set[int]) -> None:
        """A reading that cannot be told of has seen what else was missed."""
        self._unconfirmed.narrow(but)

    def actions_at(self, places: Sequence[int]) -> dict[int, ActionState]:
        """The known actions in the given packed places; `StateChanged` if they are not what is known any more."""
        with self._guarded():
            found = actions_once_sent(self._opened, places)
            if self._opened.is_changed():
                raise StateChanged(f"state file {self._state_path} was changed by another process")
            return found

    def were_listings_sorted(self) -> bool:
        """Whether what is known was taken from listings that were sorted by place: not to be told from many lines.

        Of many actions no listing of few lines is believed anyway, and a longer one tells its order itself.
        """
        if len(self.line_index) > 2 * FEW_LINES:
            return True
        with self._guarded():
            return were_sorted(self._opened.live_actions())

    def is_seen(self, action: ActionState) -> bool:
        """Whether the current reading holds the very line of `action`."""
        return self.line_index.is_seen(action.place, action.digest)

    def check_line(self, action: ActionState) -> None:
        """Raise `StateCorrupt` if the stream's entry for `action` tells of another line than the state file does."""
        if action.digest is None or action.entry == UNKNOWN_ENTRY or self.outbox.takes_changes:
            return
        with self._guarded():
            try:
                told = decode(self._stream.data_of(action.entry_id)).line_digest
            except MalformedEvent:  # the entry is gone, and others see to that
                return
            if told not in (None, action.digest):
                where = f"{action.cat_idx}/{action.rec_idx}"
                raise StateCorrupt(f"state file {self._state_path} is damaged: the hash of {where} is not its entry's")

    def save_status(self, status: PollStatus) -> None:
        """Leave the poll's status in the state file.

        Where that cannot be written, it is one statement of its own, and nothing that is known depends on it: the file
        stays open, for to load it again takes seconds where much waits.
        """
        with self._guarded(StateUnwritable):
            self._opened.save_poll_status(status)

    def saved_status(self) -> PollStatus | None:
        """What the last poll left, also one of an earlier process."""
        with self._guarded():
            return self._opened.poll_status()

    def _has_losses(self, head: Head) -> bool:
        """Whether the stream has lost entries since we left it, nothing having been added."""
        return self._head is not None and has_losses(self._head, head, 0, self._opened.needs_entry_before)

    def _refuse_losses(self, head: Head) -> None:
        if head != self._head and self._has_losses(head):
            raise self._stream.entries_lost(head)

    def _remember(self, head: Head) -> None:
        """Keep what the stream holds now: a trim has moved its front, and no live action needs what went."""
        if head != self._head:
            with self._opened.transaction():
                self._opened.set_position(head)
            self._head = head

    @contextlib.contextmanager
    def _guarded(self, harmless: type[StateError] | tuple[()] = ()) -> Iterator[None]:
        """Whatever fails, the next call starts from what is certain. What is `harmless` leaves that as it is."""
        try:
            yield
        except harmless:
            raise
        except StateChanged:
            self._abandon()
            self._load()
            raise
        except StateCorrupt as damage:
            self.close()
            raise set_aside(self._state_path, damage) from damage
        except StateError:
            self.close()
            raise
        except StreamError as error:
            self._abandon()
            self._in_step = False
            if isinstance(error, EntriesLost):
                self._head = None  # nothing that was read of it is certain: it is read from its beginning
            raise

    def _abandon(self) -> None:
        if self._flight is not None:
            self._flight.pending.abandon()
            self._flight = None

    def _load(self) -> None:
        self.line_index = LineIndex()  # there may be many lines: not once more while the others are still there
        self._head, self.line_index, missed, self.refresh_pending = self._opened.load(LineIndex)
        self._unconfirmed.load(missed)
        self._in_step = self._follows = False

    def _fold(self, head: Head) -> None:
        ours = self._head
        for _ in range(REPLAYS_MAX):
            account = CaughtUp(self._stream.key)
            try:
                with self.outbox.transaction(self._opened):
                    after = self._replay(head, ours, account)
                break
            except ReplayOvertaken as error:
                _log.info("%s: starting again", error)
                ours = None
        else:
            raise ReplayOvertaken(f"stream {self._stream.key} is trimmed faster than it can be read")
        self._head, self.refresh_pending = head, set()
        self._unconfirmed.store(set())
        self._follows = False
        account.tell(after, len(self.line_index), self._host)

    def _replay(self, head: Head, ours: Head | None, account: CaughtUp) -> str | None:
        """Within a transaction: fold the stream up to `head` into the state file, and know again which lines are live.

        From `ours`, where we are, if that is still a part of the stream, else from its beginning. Returns behind which
        entry it was begun, None for the beginning.
        """
        after = None
        if ours is not None and ours.newest_id == ours.last_id and self._stream.holds(ours):
            after = ours.last_id
        found = OutboxMatch(self._opened, self._stream, self._head, head)
        fold = self._opened.fold(account, anew=after is None)
        for page in self._stream.replay(head.last_id, after, holding=head):
            fold.fold_page(page)
            found.page(page)
        needs_before = self._opened.needs_entry_before
        if ours is not None and after is not None and has_losses(ours, head, account.entries, needs_before):
            raise ReplayOvertaken(f"entries of stream {self._stream.key} went, before or behind {after}")
        self.outbox.take_out_found(self._opened, found)
        self.line_index = LineIndex()  # as in `_load`
        self.line_index = self._opened.folded(head, LineIndex)
        return after


def _note_entries(flight: _Flight) -> None:
    """Tell the actions of an append that is finished which entries hold their states."""
    appended = (change for change in flight.changes if change.payload is not None)
    for change, entry_id in zip(appended, flight.pending.entry_ids, strict=True):
        if change.after is not None:
            change.after.entry = entry_id
