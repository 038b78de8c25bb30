"""Keeps the view up to date: one look at the streams after another, whatever happens to Redis meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from hsm_shipper.config import Config
from hsm_shipper.errors import CalledOff, HsmError, StreamRefused, StreamUnavailable
from hsm_shipper.process.durations import span
from hsm_shipper.process.output import printable
from hsm_tools.command.filters import ActionFilter
from hsm_tools.dashboard import text_frame as frame
from hsm_tools.dashboard.data.streams_state import StreamsState, mdt_state, read_anew, some, vanished
from hsm_tools.dashboard.text_frame import CONNECTED, Connection
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_state.summary import Summaries, arrivals

_REMARKS_MAX = 5
# From so much on it is told how far a replay is; a refresh has hardly ever more.
_LONG_ENTRIES = 20_000
# An answer takes a few ms; a look that waits so long waits for the server.
_QUICK_S = 3.0


class ReplayProgress(NamedTuple):
    """How far a replay is; `total` is None where that is not known."""

    done: int = 0
    total: int | None = None

    @property
    def part(self) -> float:
        """The part that is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def __str__(self) -> str:
        if self.total is None:
            return f"Catching up: {self.done:,} entries"
        return f"Replaying history: {self.part:.0%} of {self.total:,} entries"


class Failure(NamedTuple):
    """Why looks fail, though Redis answers."""

    since: float
    """Seconds since the epoch."""
    why: str
    """Not yet fit for a terminal."""


class StreamsView(NamedTuple):
    """What there is to show now."""

    state: StreamsState | None = None
    """None until the streams have been read once."""
    before: StreamsState | None = None
    """The state before it."""
    connection: Connection = CONNECTED
    failure: Failure | None = None
    """Set while looks fail as nobody foresaw."""
    progress: ReplayProgress | None = None
    """Set while a long replay goes on."""
    asked_at: float | None = None
    """Since when an answer is waited for, seconds since the epoch; None between two looks."""
    remarks: tuple[tuple[float, str], ...] = ()
    """The latest remarks on streams, with their times; not yet fit for a terminal."""

    def status(self, now_s: float) -> str:
        """What the viewer does."""
        if self.failure is not None and self.progress is None:
            return f"Failed {span(now_s - self.failure.since)} ago, trying again; what was last known is shown"
        if self.connection.lost_at is not None:
            return frame.away(self.connection, now_s)
        if self.progress is not None:
            return str(self.progress)
        if self.asked_at is not None and now_s - self.asked_at > _QUICK_S:
            return f"Redis has not answered for {span(now_s - self.asked_at)}"
        return frame.LISTENING if self.state is not None else "Asking Redis for the streams..."


class ViewUpdater:
    """Makes the `view`, which any thread may read; everything else but `stop` and `remark` is for one thread.

    Raises `ConfigError` for a server or prefix that cannot be used.
    """

    def __init__(self, config: Config, wanted: ActionFilter, jobs: int = 1) -> None:
        self.streams = LiveStreams.from_config(config, on_page=self._page, jobs=jobs)
        self.view = StreamsView()
        self._config = config
        self._jobs = jobs
        self._followed: LiveStreams | None = self.streams
        self._summaries = Summaries(wanted)
        self._done = 0
        self._total: int | None = None
        self._stopped = False
        self._remarks: deque[tuple[float, str]] = deque(maxlen=_REMARKS_MAX)

    def stop(self) -> None:
        """Let a look that goes on end with `CalledOff` as soon as it can; from any thread."""
        self._stopped = True

    def close(self) -> None:
        """Close the connection."""
        self.streams.close()
        if self._followed is not None:
            self._followed.close()

    def remark(self, text: str) -> None:
        """Have the next view say it; from any thread."""
        self._remarks.append((time.time(), text))

    def look(self) -> None:
        """Bring the view up to date, or make it say why it is not; `StreamRefused` only before the first state."""
        self._done = 0
        self._show(asked_at=time.time())
        if self._followed is None:
            self._followed = LiveStreams.from_config(self._config, on_page=self._page, jobs=self._jobs)
        try:
            ends = self._followed.look()
            if self.view.state is None:
                self._total = sum(end.length for end in ends.values() if end is not None)
            self._followed.follow(ends)
        except (StreamUnavailable, StreamRefused) as error:
            if isinstance(error, StreamRefused) and self.view.state is None:
                raise
            lost_at = self.view.connection.lost_at
            self._show(
                before=self.view.state,  # nothing has changed since
                connection=Connection(lost_at or time.time(), str(error)),
                failure=None,
                progress=None,
                asked_at=None,
            )
            return
        self._show(
            state=self._state(self._followed),
            before=self.view.state,
            connection=Connection(replica=self._followed.replica),
            failure=None,
            progress=None,
            asked_at=None,
            remarks=tuple(self._remarks),
        )

    def failed(self, error: HsmError) -> None:
        """A look has failed as nobody foresaw: say so, and read everything anew the next time.

        What was folded may be half of a page. It is shown until there is a whole one again.
        """
        if self._followed is not None:
            self._followed.close()
        self._followed = None
        since = time.time() if self.view.failure is None else self.view.failure.since
        self._show(before=self.view.state, failure=Failure(since, str(error)), progress=None, asked_at=None)

    def _state(self, followed: LiveStreams) -> StreamsState:
        now_s = time.time()
        streams = list(followed)
        before = self.view.state
        mdts = tuple(mdt_state(stream, now_s) for stream in streams)
        anew = read_anew(before, mdts) if followed is self.streams else []
        self.streams = followed
        if anew:
            self.remark(f"{some(anew)}: read anew; it was flushed, rolled back, or trimmed past what had been read")
        # The server's clock may be ahead of ours, and the ids are by its clock.
        newest_s = max((mdt.last_event_at for mdt in mdts if mdt.last_event_at is not None), default=0.0)
        arrived = arrivals(streams, max(now_s, newest_s))
        return StreamsState(now_s, mdts, self._summaries.groups(streams), arrived, vanished(before, mdts, now_s))

    def _page(self, entries: int) -> None:
        if self._stopped:
            raise CalledOff("the dashboard is to stop")
        self._done += entries
        if self.view.state is None and self._followed is not None:
            done = sum(stream.entries + stream.read_beside for stream in self._followed)
            self._show(progress=ReplayProgress(done, self._total))
        elif self._done > _LONG_ENTRIES:
            self._show(progress=ReplayProgress(self._done))

    def _show(self, **changes: Any) -> None:
        self.view = self.view._replace(**changes)


def recent(remarks: Iterable[tuple[float, str]], since_s: float) -> list[str]:
    """The remarks made since then, fit for a terminal."""
    return [
        printable(f"{time.strftime('%H:%M:%S', time.localtime(at))} {text}") for at, text in remarks if at >= since_s
    ]
