"""The outbox: what polls see while Redis is away waits in the state file, in order, and is appended when it is back.

What waits is true as long as the stream goes on from where it was left. Where it holds the first of what waits (the
reply to an append was lost, or the worker died behind it), those are done. Where it holds anything else, what waits is
history that did not happen in this order: it is dropped, and what came and went in it is counted.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hsm_shipper.config import Config
from hsm_shipper.contract.action_state import UNKNOWN_ENTRY, ActionState
from hsm_shipper.contract.event import PURGED, Event, decode
from hsm_shipper.contract.fold import ActionFold, Entry
from hsm_shipper.contract.stream_head import Head, has_losses
from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import MalformedEvent, OutboxFull, StateChanged, StateCorrupt, StateUnwritable
from hsm_shipper.state.outbox_rows import OutboxRow, OutboxSum
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.stream.stream import ActionStream
from hsm_shipper.worker.batch_size import BATCH_EVENTS, BatchSize, held_s
from hsm_shipper.worker.changes import Change

_log = logging.getLogger(__name__)

SEND_S = 10.0
"""Half of a usual poll_interval: states must not come and go while old ones are appended."""


class OutboxBound(NamedTuple):
    """How much may wait; with 0 nothing does."""

    events: int = 1_000_000
    bytes: int = 512_000_000
    send_s: float = SEND_S
    """For how many seconds a poll appends what waits, before it reads the list; the rest is left to the next ones."""

    @classmethod
    def configured(cls, config: Config, send_s: float = SEND_S) -> OutboxBound:
        """As the configuration wants it."""
        return cls(config.outbox_events_max, config.outbox_bytes_max, send_s)

    @property
    def is_off(self) -> bool:
        """Whether nothing is to wait."""
        return 0 in (self.events, self.bytes)


USUAL_BOUND = OutboxBound()


class Missed(NamedTuple):
    """What was in an outbox that was dropped."""

    states: int = 0
    """States that came and went in it."""
    last: frozenset[bytes] = frozenset()
    """MD5s of the lines whose states were the last of their places in it: the list may still hold them."""


class Outbox:
    """What one worker does with the outbox of its state file."""

    def __init__(self, bound: OutboxBound) -> None:
        self.bound = bound
        self.takes_changes = False
        """Whether changes are to wait now, and not to be appended."""
        self.is_full = False
        """Whether what was to wait last found no room, and nothing was taken out since."""
        self._full_with = OutboxSum()  # what waited when something went beyond the bound; nothing, if nothing did
        self._sent = 0
        self._missed = Missed()
        self._to_say: list[tuple[object, ...]] = []

    @contextlib.contextmanager
    def transaction(self, state: StateFile) -> Iterator[None]:
        """A transaction of the state file for `drop` and `take_out_found`: what is not committed is not done here."""
        before = self._sent, self._missed, self.is_full
        try:
            with state.transaction():
                yield
            for told in self._to_say:
                _log.warning("%d events that waited in the outbox of %s are dropped: %s", *told)
        except BaseException:
            self._sent, self._missed, self.is_full = before
            raise
        finally:
            self._to_say = []

    def keep(self, state: StateFile, changes: Sequence[Change]) -> None:
        """Within a transaction, before the position is set: have the changes of one poll wait. `OutboxFull` may come.

        What the stream already says, and only our row learns, is not among what waits.
        """
        told = [change for change in changes if change.payload is not None]
        size = sum(len(change.payload or b"") for change in told)
        held, bound = state.outbox, self.bound
        # Nothing of a later poll, be it ever so little, waits behind a gap, until some of what waits was taken out.
        is_behind_gap = held.events > 0 and held == self._full_with
        if is_behind_gap or held.events + len(told) > bound.events or held.bytes + size > bound.bytes:
            self.is_full, self._full_with = True, held
            raise OutboxFull(
                f"the outbox of {state.path} is full with {held.events:,} events ({held.bytes / 1e6:,.0f} MB): states "
                "that come and go from now on are in no stream",
                "bring Redis back; outbox_events_max and outbox_bytes_max say how much may wait",
            )
        if told:
            self._refuse_tight(state)
            seen_at = _event_in(told[0].payload, state).timestamp
            state.keep([_row_of(change, int(seen_at or 0)) for change in told])
            self.is_full = False

    def _refuse_tight(self, state: StateFile) -> None:
        """Leave the room that it takes to take out what waits, or nothing could be appended when Redis is back.

        Somebody may make room meanwhile, as on any full disk: then what a poll sees waits again.
        """
        room = state.room()
        if room.left_bytes < room.needed_bytes:
            self.is_full = True
            raise OutboxFull(
                f"the file system of {state.path} has {max(0, room.left_bytes) / 1e6:,.0f} MB left for it, and what "
                f"waits there may need {room.needed_bytes / 1e6:,.0f} MB to be taken out again: states that come and "
                "go from now on are in no stream",
                "make room there; what polls see waits again as soon as there is enough",
            )

    def send_batch(
        self,
        state: StateFile,
        stream: ActionStream,
        head: Head,
        batch: BatchSize,
        refuse_losses: Callable[[Head], None],
    ) -> tuple[Head, list[str]]:
        """Append the first of what waits, and make it what is known; where the stream ends then, and the kinds.

        Raises `StreamError` and `StateError`, as `StreamReplica.settle` does.
        """
        rows = _first_rows(state, batch)
        before = state.actions_at([row.place for row in rows])
        live = ActionFold()
        for action in before.values():
            live.put(action)
        for row in rows:  # the entries get their ids later
            live.apply(str(row.id).encode(), _event_of(row, state))
        if state.is_changed():
            raise StateChanged(f"state file {state.path} was changed by another process")
        pending = stream.start_append(head, [row.event for row in rows])
        head = pending.finish()
        batch.fit(len(rows), held_s(pending.reply_s, pending.waited_s, stream.round_trip_s))
        refuse_losses(pending.found)
        left = [action for place, action in before.items() if live.by_place.get(place) is not action]
        put = [action for action in live if before.get(action.place) is not action]
        entry_ids = {str(row.id).encode(): entry_id for row, entry_id in zip(rows, pending.entry_ids, strict=True)}
        for action in put:
            action.entry = entry_ids[action.entry]
        with state.transaction():
            state.take_out(rows)
            state.apply(left, put, head)
        self.is_full = False
        self._sent += len(rows)
        return head, [row.kind for row in rows]

    def give_back(self, state: StateFile) -> None:
        """Have the state file take no more of the disk than it needs, now that nothing waits."""
        try:
            state.shrink()
        except StateUnwritable as error:
            _log.info("%s", error)

    def drop(self, state: StateFile, reason: str) -> None:
        """Within a `transaction`, before the position is set: let nothing wait any more, and say so."""
        events = state.outbox.events
        if not events:
            return
        states, last = state.drop_outbox()
        self._missed = Missed(self._missed.states + states, self._missed.last | last)
        self.is_full = False
        self._to_say.append((events, state.path, reason))

    def take_out_found(self, state: StateFile, found: OutboxMatch) -> None:
        """Within a `transaction`, before the position is set: what the stream holds of what waits waits no more.

        `found` has met all that the stream holds.
        """
        left = found.events
        while left:
            rows = state.waiting_behind(0, min(left, BATCH_EVENTS))
            state.take_out(rows)
            left -= len(rows)
        if not found.goes_on():
            self.drop(state, "the stream does not go on from where it was left: another host wrote, or data was lost")
        self._sent += found.events

    def take_sent(self) -> int:
        """Events appended since this was asked for."""
        sent, self._sent = self._sent, 0
        return sent

    def take_missed(self) -> Missed:
        """What was dropped since this was asked for."""
        missed, self._missed = self._missed, Missed()
        return missed


class OutboxMatch:
    """Compares what a stream holds beyond a position with what waits behind that position."""

    def __init__(self, state: StateFile, stream: ActionStream, left_at: Head | None, now: Head) -> None:
        """`left_at` is the stream as it was left (None where that is not known any more), `now` as it is.

        The live actions in the state file are still those of `left_at`.
        """
        self.events = 0
        """So many of those that wait are in the stream."""
        self._state = state
        self._left_at = left_at
        self._is_open = left_at is not None and state.outbox.events > 0
        self._is_other = False
        self._last = self._left = 0 if left_at is None else pack_id(left_at.last_id)
        self._beyond = 0
        self._holds = left_at is not None and self._is_open and stream.holds(left_at)
        self._now = now
        self._needs_front = self._is_open and state.needs_entry_before(now.first_id)
        self._rows = _waiting(state)

    def page(self, page: Sequence[Entry]) -> None:
        """Look at the next entries of the stream, be they from before the position."""
        if not self._is_open:
            return
        for entry_id, data in page:
            packed = pack_id(entry_id)
            if packed <= self._left:
                self._is_other |= not self._holds
                continue
            self._beyond += 1
            if self._is_other or self.events == self._state.outbox.events:
                continue
            if next(self._rows).event == data:
                self.events += 1
                self._last = packed
            else:
                self._is_other = True

    def goes_on(self) -> bool:
        """Whether the rest still waits for a stream that is as it should be."""
        if not self._is_open or self._left_at is None or self._is_other:
            return False
        # Our append comes first behind where we left it. What somebody else added behind that may be gone again: XDEL
        # tells, a trim takes what we know first.
        others_would_show = self._holds and self._now.max_deleted_id is not None
        if self._last != pack_id(self._now.last_id) and not others_would_show:
            return False
        return not has_losses(self._left_at, self._now, self._beyond, lambda _: self._needs_front)


def actions_once_sent(state: StateFile, places: Sequence[int]) -> dict[int, ActionState]:
    """The actions in the given packed places that are live once the outbox is sent."""
    found = state.actions_at(places)
    for place, row in state.waiting_at(places).items():
        live = ActionFold()
        live.apply(UNKNOWN_ENTRY, _event_of(row, state))
        found.pop(place, None)
        found.update(live.by_place)
    return found


def _row_of(change: Change, seen_at: int) -> OutboxRow:
    assert change.payload is not None, "what has no payload is in the stream already"
    before, after = change.before, change.after
    return OutboxRow(
        0,
        seen_at,
        change.kind,
        change.place,
        None if before is None else before.digest,
        None if after is None else after.digest,
        change.payload,
    )


def _first_rows(state: StateFile, batch: BatchSize) -> list[OutboxRow]:
    """As many as one call of the script may append, and one in any case."""
    rows = state.waiting_behind(0, batch.events)
    size = 0
    for at, row in enumerate(rows):
        size += len(row.event)
        if size >= batch.payload_bytes:
            return rows[: at + 1]
    return rows


def _waiting(state: StateFile) -> Iterator[OutboxRow]:
    last = 0
    while rows := state.waiting_behind(last, BATCH_EVENTS):
        yield from rows
        last = rows[-1].id


def _event_in(payload: bytes | None, state: StateFile) -> Event:
    try:
        return decode(payload)
    except MalformedEvent as error:
        raise StateCorrupt(f"state file {state.path} is damaged: its outbox holds no event: {error}") from None


def _event_of(row: OutboxRow, state: StateFile) -> Event:
    event = _event_in(row.event, state)
    digest = None if event.event_type == PURGED else event.line_digest
    if event.place != row.place or digest != row.digest:
        raise StateCorrupt(f"state file {state.path} is damaged: an event of its outbox is not what its row tells")
    return event
