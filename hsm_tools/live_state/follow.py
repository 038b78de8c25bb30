"""Follows streams: what is live on every MDT, now and after every `refresh`.

Each look asks the server for the ends of all streams and their heartbeats in one round trip, and folds what was added.
It waits for nothing to come, so that whoever calls decides how often. A stream whose past is not the one that was
folded (trimmed past our position or by somebody else, flushed, rolled back, made anew) is folded from its first entry.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.acl_commands import LIVE_COMMANDS
from hsm_shipper.contract.redis_keys import heartbeat_key, mdt_of
from hsm_shipper.errors import HsmError, StreamError, StreamUnavailable
from hsm_shipper.stream.redis_errors import is_denied
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.live_state.beside import Answer, Order, Processes, ReadingFailure, SideBySide
from hsm_tools.live_state.health import read_heartbeat
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.live_state.tally import Tally
from hsm_tools.reader.finding import StreamFinder
from hsm_tools.reader.outages import one_try_failed, refusal
from hsm_tools.reader.positions import StreamInfo
from hsm_tools.reader.replica import ReplicaState
from hsm_tools.reader.server import Server
from hsm_tools.reader.steps import Pipeline

DISCOVERY_INTERVAL_S = 60.0


class LiveStreams:
    """All streams of a prefix on a server, by MDT; empty before the first `refresh`.

    `discovery_interval_s` is the longest time until a new stream is found; in a database with few keys it is found by
    the next refresh. `on_page` is told of every so many entries folded. With `side_by_side`, long streams that are read
    for the first time are folded in several processes.
    """

    def __init__(
        self,
        server: Server,
        prefix: str,
        *,
        discovery_interval_s: float = DISCOVERY_INTERVAL_S,
        on_page: Callable[[int], None] = lambda _: None,
        side_by_side: SideBySide | None = None,
    ) -> None:
        self.address = server.address
        """Where the server is, for messages."""
        self.prefix = prefix
        self.replica: ReplicaState | None = None
        """The replica that the last look has asked, and how old what it says may be; None where it was the primary."""
        self._server = server
        self._runner = server.runner(math.inf)
        self._finder = StreamFinder(self.prefix, discovery_interval_s)
        self._on_page = on_page
        self._side_by_side = side_by_side
        self._processes: Processes | None = None
        self._to_read_here: list[Order] = []
        self._streams: dict[str, LiveStream] = {}
        self._tallies: dict[str, Tally] = {}  # a stream that is gone may return, with entries that were counted

    @classmethod
    def from_config(cls, config: Config, *, on_page: Callable[[int], None] = lambda _: None, jobs: int = 1) -> Self:
        """Those that a configuration names, folded in at most `jobs` processes.

        Raises `ConfigError` for a server that cannot be used.
        """
        server = Server.from_config(config)
        return cls(server, config.redis_stream_prefix, on_page=on_page, side_by_side=SideBySide(config, jobs))

    def __iter__(self) -> Iterator[LiveStream]:
        """The streams, in order of their MDTs."""
        return iter([self._streams[mdt] for mdt in sorted(self._streams)])

    def __len__(self) -> int:
        return len(self._streams)

    def __getitem__(self, mdt: str) -> LiveStream:
        return self._streams[mdt]

    def close(self) -> None:
        """Close the connection; the streams stay as they are."""
        self._runner.close()

    def look(self) -> dict[str, StreamInfo | None]:
        """Find the streams and their ends, without folding anything: by MDT, None for one that is gone.

        Raises `StreamUnavailable`, or `StreamRefused` where trying again is of no use.
        """
        try:
            if self._finder.due:
                self._found({key.decode() for key in self._runner.run(self._finder.scan())})
            return self._ends()
        except redis.RedisError as error:
            raise one_try_failed(error, self.prefix, self.address, LIVE_COMMANDS) from error

    def refresh(self) -> None:
        """Make every stream's live actions what the stream says now; raises what `look` and `follow` raise."""
        self.follow(self.look())

    def follow(self, ends: Mapping[str, StreamInfo | None]) -> None:
        """Fold every stream up to where `look` has found its end.

        Raises `StreamUnavailable`: what was folded by then is kept, and the next refresh goes on from there. A single
        stream that is refused is no error: it keeps what it had, and its `trouble` says why. `HsmError` if a process
        beside this one has ended.
        """
        orders = [
            Order(mdt, self._streams[mdt].key, end, self._streams[mdt].tally)
            for mdt, end in ends.items()
            if end is not None and end.length and not self._streams[mdt].entries
        ]
        beside = 0 if self._side_by_side is None else self._side_by_side.beside([it.end.length for it in orders])
        if not beside:
            orders = []
        ordered = {order.mdt for order in orders}
        for mdt, end in ends.items():
            if mdt not in ordered:
                self._follow(mdt, end)
        if orders:
            self._follow_side_by_side(orders, beside)

    def _follow(self, mdt: str, end: StreamInfo | None) -> None:
        try:
            self._streams[mdt].follow(end)
        except StreamError as error:
            self._failed(mdt, error)

    def _failed(self, mdt: str, error: HsmError) -> None:
        """Reading it did: raise what concerns all streams."""
        if isinstance(error, StreamUnavailable) or not isinstance(error, StreamError):
            raise error
        self._streams[mdt].trouble = str(error)

    def _follow_side_by_side(self, orders: list[Order], beside: int) -> None:
        """Fold streams in this process and in so many beside it, the longest first."""
        assert self._side_by_side is not None
        waiting = deque(sorted(orders, key=lambda order: order.end.length, reverse=True))
        here: Order | None = waiting.popleft()  # the others have yet to start
        self._to_read_here = []
        try:
            with self._side_by_side.start(beside, waiting, self._told) as self._processes:
                while here is not None:
                    self._follow(here.mdt, here.end)
                    here = waiting.popleft() if waiting else None
                self._processes.finish()
        finally:
            self._processes = None
            for order in orders:
                self._streams[order.mdt].read_beside = 0
        for order in self._to_read_here:
            self._follow(order.mdt, order.end)

    def _told(self, order: Order, answer: Answer) -> None:
        """A process beside this one has told something of a stream."""
        stream = self._streams[order.mdt]
        stream.length, stream.first_id = order.end.length, order.end.first_id
        if isinstance(answer, ReadingFailure):
            self._failed(order.mdt, answer.error)
            return
        entries = answer if isinstance(answer, int) else answer.reached.entries
        more, stream.read_beside = entries - stream.read_beside, entries
        self._on_page(max(0, more))  # fewer where a trim had it begin anew
        if isinstance(answer, int):
            return
        stream.read_beside = 0
        if stream.take_over(answer, order.end):
            self._tallies[order.mdt] = stream.tally
        else:
            self._to_read_here.append(order)

    def _page(self, entries: int) -> None:
        self._on_page(entries)
        if self._processes is not None:
            self._processes.attend()

    def _found(self, keys: set[str]) -> None:
        for key in keys:
            mdt = mdt_of(self.prefix, key)
            if mdt not in self._streams:
                stream = ActionStream(self._runner.client_of(key), key, self.address)
                tally = self._tallies.setdefault(mdt, Tally())
                self._streams[mdt] = LiveStream(mdt, stream, tally, self._page)
        for mdt in [mdt for mdt, stream in self._streams.items() if stream.key not in keys]:
            del self._streams[mdt]

    def _ends(self) -> dict[str, StreamInfo | None]:
        ends: dict[str, StreamInfo | None] = {}
        commands: list[tuple[Any, ...]] = []
        for mdt, stream in self._streams.items():
            beat_key = heartbeat_key(self.prefix, mdt)
            commands += [("XINFO", "STREAM", stream.key), ("EXISTS", stream.key), ("GET", beat_key)]
        if self._server.may_read_replica:
            commands.append(("INFO", "replication"))
        replies = self._runner.ask(Pipeline(commands))
        if self._server.may_read_replica:
            self.replica = self._server.replica_state(replies.pop())
        for stream, info, exists, beat in zip(
            self._streams.values(), replies[::3], replies[1::3], replies[2::3], strict=True
        ):
            stream.heartbeat, stream.heartbeat_trouble = read_heartbeat(beat)
            stream.trouble = None
            if not isinstance(info, redis.RedisError):
                ends[stream.mdt] = StreamInfo.of(info)
            elif exists == 0:
                ends[stream.mdt] = None
            else:
                stream.trouble = f"{stream.key} cannot be read: {self._why(info)}"
        return ends

    def _why(self, error: redis.RedisError) -> str:
        refused = refusal(error, self.prefix, self.address, LIVE_COMMANDS)
        return f"{error}; {refused.hint}" if is_denied(error) else str(error)
