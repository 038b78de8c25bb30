"""Follows streams: what is live on every MDT, now and after every `refresh`.

Each look asks the server for the ends of all streams and their heartbeats in one round trip, and folds what was added.
It waits for nothing to come, so that whoever calls decides how often. A stream whose past is not the
one that was folded (trimmed past our position, flushed, rolled back, made anew) is folded again from its first entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.acl_commands import LIVE_COMMANDS
from hsm_shipper.contract.redis_keys import heartbeat_key, mdt_of
from hsm_shipper.errors import StreamError, StreamUnavailable
from hsm_shipper.stream.redis_errors import is_denied
from hsm_shipper.stream.stream import ActionStream
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
    the next refresh. `on_page` is told of every so many entries folded.
    """

    def __init__(
        self,
        server: Server,
        prefix: str,
        *,
        discovery_interval_s: float = DISCOVERY_INTERVAL_S,
        on_page: Callable[[int], None] = lambda _: None,
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
        self._streams: dict[str, LiveStream] = {}
        self._tallies: dict[str, Tally] = {}  # a stream that is gone may return, with entries that were counted

    @classmethod
    def from_config(cls, config: Config, *, on_page: Callable[[int], None] = lambda _: None) -> Self:
        """Those that a configuration names; `ConfigError` for a server that cannot be used."""
        return cls(Server.from_config(config), config.redis_stream_prefix, on_page=on_page)

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
        stream that is refused is no error: it keeps what it had, and its `trouble` says why.
        """
        for mdt, end in ends.items():
            stream = self._streams[mdt]
            try:
                stream.follow(end)
            except StreamUnavailable:
                raise
            except StreamError as error:
                stream.trouble = str(error)

    def _found(self, keys: set[str]) -> None:
        for key in keys:
            mdt = mdt_of(self.prefix, key)
            if mdt not in self._streams:
                stream = ActionStream(self._runner.client_of(key), key, self.address)
                tally = self._tallies.setdefault(mdt, Tally())
                self._streams[mdt] = LiveStream(mdt, stream, tally, self._on_page)
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
