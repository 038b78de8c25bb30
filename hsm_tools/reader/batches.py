"""One reading: batch after batch of events, with outages waited out; driven by `consumer` and by `aio`."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import redis

from hsm_tools.event import EntryDecoder, StreamEvent
from hsm_tools.reader.outages import Outage, one_try_failed, passes
from hsm_tools.reader.steps import Pause, Steps
from hsm_tools.reader.streams import Page

Where: TypeAlias = Callable[[StreamEvent], bool]
"""Whether an event is wanted."""


class Source(Protocol):
    """Where the pages come from: the streams as they are, or by way of a consumer group."""

    commands: str
    """What an ACL must allow."""
    writes: bool
    """Whether some of these write, and so need the primary."""

    @property
    def caught_up(self) -> bool:
        """Whether all that was there at the start has been read."""

    @property
    def position(self) -> dict[bytes, bytes]:
        """The id of the last entry that was read of each stream."""

    @property
    def position_before(self) -> dict[bytes, bytes]:
        """The same, before the last pages."""

    def read(self, limit_s: float) -> Steps[list[Page]]:
        """The next pages, or [] within `limit_s`."""

    def passed_over(self, key: bytes, entry_id: bytes) -> None:
        """An entry was malformed, or a refresh that nobody wants."""

    def reconnected(self) -> None:
        """The next reply may come from another server."""


class _Progress(NamedTuple):
    """How far `batch` was handed out: `position` is that after its first `walked` events, as keys and ids of Redis."""

    batch: list[StreamEvent]
    walked: int
    position: dict[bytes, bytes]


class EventReading:
    """Turns the pages of a source into batches of events.

    `block_s`: an empty batch comes when so many seconds pass without an event. With `ends` there is none: the reading
    is over once the source has caught up, and trouble is raised instead of being waited out. Only events that `where`
    is true of are given.
    """

    def __init__(
        self,
        source: Source,
        decoder: EntryDecoder,
        prefix: str,
        address: str,
        block_s: float,
        *,
        ends: bool = False,
        where: Where | None = None,
    ) -> None:
        self.source = source
        self.ending = threading.Event()
        """Set, from any thread, to end the reading at its next turn: within a second or so."""
        self.current: StreamEvent | None = None
        """The event that was handed out last of the batch."""
        self._progress = _Progress([], 0, source.position)
        self._decoder = decoder
        self._prefix = prefix
        self._outage = Outage(address)
        self.block_s = math.inf if ends else block_s
        self._ends = ends
        self._where = where

    @property
    def position(self) -> dict[str, str]:
        """The id of the last entry of each stream that was handed out, or passed over before that."""
        # In this order, and the other way round where they change: so another thread sees less, but never too much.
        batch, walked, position = self._progress
        current = self.current
        position = dict(position)
        while current is not None and walked < len(batch) and not (walked and batch[walked - 1] is current):
            position[batch[walked].stream.encode()] = batch[walked].id.encode()
            walked += 1
        self._progress = _Progress(batch, walked, position)
        return {key.decode(): entry_id.decode() for key, entry_id in position.items()}

    def all_handed_out(self) -> None:
        """The whole batch was handed out, and may be changed by whoever has it."""
        self._hand_out(self.source.position, [])

    def next_batch(self) -> Steps[list[StreamEvent] | None]:
        """The next batch, which begins with nothing of it handed out; None when the reading is over."""
        quiet_at_s = time.monotonic() + self.block_s
        while not self.ending.is_set():
            self.all_handed_out()
            if self._ends and self.source.caught_up:
                return None
            limit_s = max(0.0, quiet_at_s - time.monotonic()) if self.source.caught_up else math.inf
            batch = yield from self._read(limit_s)
            if batch or (not self._ends and self.source.caught_up and time.monotonic() >= quiet_at_s):
                self._hand_out(self.source.position_before if batch else self.source.position, batch)
                return batch
        return None

    def _hand_out(self, before: dict[bytes, bytes], batch: list[StreamEvent]) -> None:
        self.current = None
        self._progress = _Progress(batch, 0, before)

    def _read(self, limit_s: float) -> Steps[list[StreamEvent]]:
        """What arrives next, or nothing once `limit_s` is over at the latest; trouble that passes is noted."""
        left_s = self._outage.left_s
        if left_s > 0:
            yield Pause(min(left_s, limit_s))
            if left_s > limit_s:
                return []
        try:
            pages = yield from self.source.read(limit_s)
        except redis.RedisError as error:
            if self._ends or not passes(error):
                raise one_try_failed(error, self._prefix, self._outage.address, self.source.commands) from error
            self._outage.failed(error)
            return []
        self._outage.ended()
        passed_over = self.source.passed_over
        events = [event for key, entries in pages for event in self._decoder.events(key, entries, passed_over)]
        return events if self._where is None else [*filter(self._where, events)]
