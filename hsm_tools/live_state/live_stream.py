"""One MDT's stream, and what is live in it: kept up to date by whoever knows where the stream ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.stream_head import Head, has_losses
from hsm_shipper.contract.stream_ids import EMPTY_ID, pack_id
from hsm_shipper.stream.replay import Replay
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.live_state.folded_stream import FoldedStream, packed, unpacked
from hsm_tools.live_state.health import WorkerHealth, worker_health
from hsm_tools.live_state.observer import ToolsObserver
from hsm_tools.live_state.summary import ActionGroup, GroupKey, group
from hsm_tools.live_state.tally import Tally
from hsm_tools.reader.positions import StreamInfo

logger = logging.getLogger(__name__)


class _Known(NamedTuple):
    """A stream when losses were looked for last."""

    live: ActionFold
    """By which fold: one that was begun anew has to know nothing of what was."""
    head: Head
    entries: int
    """How many were folded."""


class LiveStream:
    """One MDT's stream, as of the last refresh."""

    def __init__(self, mdt: str, stream: ActionStream, tally: Tally, on_page: Callable[[int], None]) -> None:
        self.mdt = mdt
        self.key = stream.key
        self.length = 0
        """Entries that it has."""
        self.first_id: bytes | None = None
        """Its oldest entry."""
        self.heartbeat: Heartbeat | None = None
        """What its worker has said last; None where no worker polls, or it cannot be read."""
        self.heartbeat_trouble: str | None = None
        """Why it cannot be read: then nothing is known of the worker."""
        self.trouble: str | None = None
        """Why what is shown is not what the stream says now."""
        self.tally = tally
        """What its events come to."""
        self.read_beside = 0
        """Entries that a process beside this one has folded, which is not yet done with it."""
        self._stream = stream
        self._on_page = on_page
        self._known: _Known | None = None
        self._folded: FoldedStream | None = None  # which is to be unpacked, if anybody asks for it
        self._replay = self._beginning()

    @property
    def live(self) -> ActionFold:
        """Its live actions, in order of their entries."""
        if self._folded is not None:
            for action in unpacked(self._folded.packed):
                self._replay.live.put(action)
            self._folded = None
        return self._replay.live

    @property
    def live_count(self) -> int:
        """How many there are."""
        return len(self._replay.live) if self._folded is None else self._folded.live

    def groups(self) -> dict[GroupKey, ActionGroup]:
        """How many there are of each kind."""
        return group(self.mdt, self.live) if self._folded is None else self._folded.groups

    @property
    def entries(self) -> int:
        """Entries folded to know them."""
        return self._replay.entries

    @property
    def malformed(self) -> int:
        """Entries among these that were no events, and passed over."""
        return self._replay.malformed

    @property
    def folded_to(self) -> str:
        """The id that it was folded up to; while this stays, nothing has changed."""
        return self._replay.until

    @property
    def first_entry_at(self) -> float | None:
        """When its oldest entry was appended: seconds since the epoch by the Redis server's clock; None without one."""
        return _time_of(self.first_id)

    @property
    def last_entry_at(self) -> float | None:
        """The same of the newest that was folded."""
        return _time_of(self.folded_to)

    def health(self, now_s: float) -> WorkerHealth:
        """How its worker does at `now_s` (seconds since the epoch)."""
        return worker_health(self.heartbeat, now_s, self.heartbeat_trouble)

    def follow(self, end: StreamInfo | None) -> None:
        """Fold what lies between here and `end`; None if the stream is gone."""
        if end is None:
            self.length, self.first_id = 0, None
            if self.folded_to != EMPTY_ID:
                logger.warning("stream %s is gone: nothing is live there", self.key)
                self._begin_anew()
            return
        self.length, self.first_id = end.length, end.first_id
        last_id = end.last_id.decode()
        if pack_id(last_id) < pack_id(self.folded_to):
            logger.warning("stream %s went back in time: it is folded from its first entry", self.key)
            self._begin_anew()
        if last_id != self.folded_to:
            _ = self.live  # which is what the fold goes on from
            self._replay.go_on(last_id)
        if self._has_losses(end):
            logger.warning("stream %s has lost entries to somebody else: it is folded from its first entry", self.key)
            self._begin_anew()
            self._replay.go_on(last_id)
            self._known = self._known_now(end)

    def _has_losses(self, end: StreamInfo) -> bool:
        """Whether somebody has removed entries that live actions need, since this was asked last.

        The worker finds it out as well, and begins anew: of what it was about to tell the end, it may tell none then.
        """
        known, self._known = self._known, self._known_now(end)
        if known is None or known.live is not self._known.live:
            return False
        return has_losses(known.head, self._known.head, self._known.entries - known.entries, self._needs_before)

    def _known_now(self, end: StreamInfo) -> _Known:
        return _Known(self._replay.live, end.head, self.entries)

    def _needs_before(self, entry_id: str | None) -> bool:
        oldest = next(iter(self.live), None)
        return oldest is not None and (entry_id is None or pack_id(oldest.entry) < pack_id(entry_id))

    def folded(self) -> FoldedStream:
        """All of it, for `take_over` in another process."""
        return FoldedStream(self._replay.reached, self.tally, self.groups(), self.live_count, packed(self.live))

    def take_over(self, folded: FoldedStream, end: StreamInfo) -> bool:
        """Be what another process has folded up to `end`; False, and unchanged, if it has not read that very entry.

        Then it has asked another server, a replica that is behind the one that told the end.
        """
        if folded.reached.last_entry != end.last_id.decode():
            return False
        self.tally = folded.tally
        self._begin_anew()
        self._replay.continue_from(folded.reached)
        self._folded = folded
        self._known = self._known_now(end)
        return True

    def _begin_anew(self) -> None:
        self._folded = None
        self._replay = self._beginning()

    def _beginning(self) -> Replay:
        return Replay(
            self._stream,
            lambda page: self._on_page(len(page)),
            observer=lambda: ToolsObserver(self.tally),
            digests=False,
        )


def _time_of(entry_id: str | bytes | None) -> float | None:
    return None if entry_id is None or entry_id == EMPTY_ID else (pack_id(entry_id) >> 64) / 1000
