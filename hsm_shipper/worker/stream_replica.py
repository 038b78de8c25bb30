"""What the stream says, as this host knows it: state file, memory and stream position, kept in step.

The one place where a change becomes real: appended if the stream is where we left it, and only then committed to the
state file together with the new position, and only then remembered. Whatever fails between these steps shows as a
mismatch, and `catch_up` folds what the stream really says.
"""

from __future__ import annotations

import contextlib
import logging
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
    ReplayOvertaken,
    StateChanged,
    StateCorrupt,
    StateError,
    StreamError,
)
from hsm_shipper.state.damage import set_aside
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

_log = logging.getLogger(__name__)


class _Flight(NamedTuple):
    changes: Sequence[Change]
    pending: PendingAppend


class StreamReplica:
    """The live actions of one MDT by its stream. Raises `StateError` and `StreamError`.

    Each failure leads back to what is certain::

        closed ──open()──▶ loaded ──catch_up()──▶ in step ⟲ ship(), settle(), compare()
          ▲                  ▲ ▲                     │ │
          │                  │ └──StateChanged───────┘ │   somebody committed to the file: it is loaded anew
          │                  └────StreamError──────────┤   with EntriesLost its position is forgotten as well
          └───────────────────────StateError───────────┘   with StateCorrupt the file is set aside
    """

    def __init__(self, state_path: Path, stream: ActionStream, host: str) -> None:
        self._state_path = state_path
        self._stream = stream
        self._host = host
        self._state_file: StateFile | None = None
        self._head: Head | None = None
        self._in_step = False
        self._flight: _Flight | None = None
        self.shipped: Counter[str] = Counter()
        """Settled changes by kind, until the poller clears it."""
        self.batch = BatchSize()
        """How much to ship at once."""
        self.line_index = LineIndex()
        self.unconfirmed_absent: Set[int] = set()
        """Places that the last complete reading missed without being believed."""
        self.refresh_pending: set[int] = set()
        """Places of actions whose state is to be appended again."""

    @property
    def is_open(self) -> bool:
        """Whether there is a state file to write to."""
        return self._state_file is not None

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
        self.line_index, self.unconfirmed_absent, self.refresh_pending = LineIndex(), set(), set()

    def catch_up(self) -> None:
        """Make sure that we are where the stream is, folding what it has said without us."""
        if self._in_step:
            return
        with self._guarded():
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
        self._in_step = True

    def ship(self, changes: Sequence[Change]) -> None:
        """Begin to ship a batch, having settled the one before: the server appends while the next one is prepared.

        Raises `StreamMoved` or `StateChanged` where the changes were computed from what is true no more.
        """
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
            refreshed = (
                {change.place for change in flight.changes} & self.refresh_pending
                if self.refresh_pending
                else self.refresh_pending
            )
            with self._opened.transaction():
                self._opened.apply(*rows_of(flight.changes), head)
                self._opened.unmark(refreshed)
        self.refresh_pending -= refreshed
        self._head = head
        left, entered = rows_of(flight.changes)
        self.line_index.drop_all([action.place for action in left], [action.digest for action in left])
        self.line_index.add_all([action.place for action in entered], [action.digest for action in entered])
        self.shipped.update(change.kind for change in flight.changes)

    def compare(self) -> None:
        """Look that the stream is still as we left it, and may be written; raises `StreamMoved` if it is not."""
        assert self._head is not None, "catch_up() comes first"
        with self._guarded():
            head = self._stream.compare(self._head)
            self._refuse_losses(head)
            self._remember(head)

    def remember_unconfirmed(self, places: Set[int]) -> None:
        """Keep the places that a reading missed for the next one, whoever makes it."""
        if places != self.unconfirmed_absent:
            with self._guarded():
                self._opened.set_missed(places)
            self.unconfirmed_absent = places

    def actions_at(self, places: Sequence[int]) -> dict[int, ActionState]:
        """The live actions in the given packed places; `StateChanged` if they are not what is known any more."""
        with self._guarded():
            found = self._opened.actions_at(places)
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
        if action.digest is None or action.entry == UNKNOWN_ENTRY:
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
        """Leave the poll's status in the state file."""
        with self._guarded():
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
    def _guarded(self) -> Iterator[None]:
        """Whatever fails, the next call starts from what is certain."""
        try:
            yield
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
        self._head, self.line_index, self.unconfirmed_absent, self.refresh_pending = self._opened.load(LineIndex)
        self._in_step = False

    def _fold(self, head: Head) -> None:
        for _ in range(REPLAYS_MAX):
            try:
                with self._opened.transaction():
                    self._replay(head)
                break
            except ReplayOvertaken as error:
                _log.info("%s: starting again", error)
                self._head = None
        else:
            raise ReplayOvertaken(f"stream {self._stream.key} is trimmed faster than it can be read")
        self._head, self.unconfirmed_absent, self.refresh_pending = head, set(), set()

    def _replay(self, head: Head) -> None:
        """Within a transaction: fold the stream up to `head` into the state file, and know again which lines are live.

        From where we are, if that is still a part of the stream, else from its beginning.
        """
        account = CaughtUp(self._stream.key)
        ours, after = self._head, None
        if ours is not None and ours.newest_id == ours.last_id and self._stream.holds(ours):
            after = ours.last_id
        fold = self._opened.fold(account, anew=after is None)
        for page in self._stream.replay(head.last_id, after, holding=head):
            fold.fold_page(page)
        needs_before = self._opened.needs_entry_before
        if ours is not None and after is not None and has_losses(ours, head, account.entries, needs_before):
            raise ReplayOvertaken(f"entries of stream {self._stream.key} went, before or behind {after}")
        self.line_index = LineIndex()  # there may be many lines: not once more while the others are still there
        self.line_index = self._opened.folded(head, LineIndex)
        account.tell(after, len(self.line_index), self._host)


def _note_entries(flight: _Flight) -> None:
    """Tell the actions of an append that is finished which entries hold their states."""
    appended = (change for change in flight.changes if change.payload is not None)
    for change, entry_id in zip(appended, flight.pending.entry_ids, strict=True):
        if change.after is not None:
            change.after.entry = entry_id
