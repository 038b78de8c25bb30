"""Follows streams: what is live on every MDT, now and after every `refresh`.

Each look asks the server for the ends of all streams and their heartbeats in one round trip, and folds what was added.
It waits for nothing to come, so that whoever calls decides how often. A stream whose past is not the
one that was folded (trimmed past our position, flushed, rolled back, made anew) is folded again from its first entry.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.acl_commands import LIVE_COMMANDS
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.redis_keys import heartbeat_key, mdt_of
from hsm_shipper.contract.stream_ids import EMPTY_ID, pack_id
from hsm_shipper.errors import StreamError, StreamUnavailable
from hsm_shipper.stream.redis_errors import is_denied
from hsm_shipper.stream.replay import Replay
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.live_state.health import WorkerHealth, read_heartbeat, worker_health
from hsm_tools.live_state.observer import ToolsObserver
from hsm_tools.live_state.tally import Tally
from hsm_tools.reader.finding import StreamFinder
from hsm_tools.reader.outages import one_try_failed, refusal
from hsm_tools.reader.positions import StreamInfo
from hsm_tools.reader.replica import ReplicaState
from hsm_tools.reader.server import Server
from hsm_tools.reader.steps import Pipeline

DISCOVERY_INTERVAL_S = 60.0

logger = logging.getLogger(__name__)


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
        self._stream = stream
        self._on_page = on_page
        self._replay = self._beginning()

    @property
    def live(self) -> ActionFold:
        """Its live actions, in order of their entries."""
        return self._replay.live

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
                self._replay = self._beginning()
            return
        self.length, self.first_id = end.length, end.first_id
        last_id = end.last_id.decode()
        if pack_id(last_id) < pack_id(self.folded_to):
            logger.warning("stream %s went back in time: it is folded from its first entry", self.key)
            self._replay = self._beginning()
        if last_id != self.folded_to:
            self._replay.go_on(last_id)

    def _beginning(self) -> Replay:
        return Replay(
            self._stream,
            lambda page: self._on_page(len(page)),
            observer=lambda: ToolsObserver(self.tally),
            digests=False,
        )


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


def _time_of(entry_id: str | bytes | None) -> float | None:
    return None if entry_id is None or entry_id == EMPTY_ID else (pack_id(entry_id) >> 64) / 1000
