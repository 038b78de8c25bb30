"""What the two readers share: their arguments, and the readings that they begin."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Self

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import DEFAULT_PREFIX, check_prefix
from hsm_tools.event import EntryDecoder
from hsm_tools.reader.batches import EventReading, Source, Where
from hsm_tools.reader.finding import StreamFinder, check_discovery_interval
from hsm_tools.reader.group_source import SETTLING_S, GroupSource
from hsm_tools.reader.newest import NewestEntries
from hsm_tools.reader.outages import one_try_failed
from hsm_tools.reader.server import Server
from hsm_tools.reader.starts import EntryNumbers, StartArgument, start_of
from hsm_tools.reader.steps import Steps
from hsm_tools.reader.streams import LONGEST_BLOCK_S, StreamSet


class Reader:
    """Base of `StreamReader` and `AsyncStreamReader`; see the former."""

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        db: int | None = None,
        prefix: str = DEFAULT_PREFIX,
        discovery_interval: float = 60,
        redis_url: str | None = None,
        *,
        refreshes: bool = False,
        **redis_kwargs: Any,
    ) -> None:
        server = Server.from_arguments(host, port, db, redis_url, redis_kwargs)
        self._set_up(server, check_prefix(prefix), discovery_interval, refreshes=refreshes)

    @classmethod
    def from_config(
        cls, config: Config, discovery_interval: float = 60, *, refreshes: bool = False, from_primary: bool = False
    ) -> Self:
        """A reader of the streams that a loaded configuration names; `ConfigError` for one that cannot be used.

        `from_primary`: it never reads from a replica, whatever the configuration says.
        """
        reader, prefix = cls.__new__(cls), check_prefix(config.redis_stream_prefix)
        server = Server.from_config(config, from_primary=from_primary)
        reader._set_up(server, prefix, discovery_interval, refreshes=refreshes)
        return reader

    def _set_up(self, server: Server, prefix: str, discovery_interval_s: float, *, refreshes: bool) -> None:
        self._server = server
        self.address = server.address
        self.prefix = prefix
        self._discovery_interval_s = check_discovery_interval(discovery_interval_s)
        self._decoder = EntryDecoder(refreshes=refreshes)
        self._reading: EventReading | None = None
        self._streams: StreamSet | NewestEntries | None = None
        self._closed = False

    @property
    def malformed(self) -> int:
        """How many entries were passed over because they hold no JSON object."""
        return self._decoder.malformed

    @property
    def position(self) -> dict[str, str]:
        """How far the reading that was begun last has got: the id of the last entry, by stream.

        An event counts as read once it has been handed out, a batch of `batches` as a whole. So save the position
        after you have handled what you were given, and never before: `handle(event); save(reader.position)`. It can
        be written as JSON, and given to `start`. Until the streams were looked at for the first time it is the
        one that was given as `start`, else empty.
        """
        return {} if self._reading is None else self._reading.position

    def _follow(self, from_beginning: bool, block_ms: int, start: StartArgument) -> EventReading:
        """A reading that goes on for ever."""
        block_s = _block_s(block_ms)
        begin = start_of(self.prefix, from_beginning, start, self._numbers)
        return self._begin(StreamSet(self._finder(), begin, self._longest_block_s(block_s)), block_s)

    def _look_back(self, start: StartArgument, last: int | None, where: Where | None) -> EventReading:
        """A reading that ends."""
        if last is not None and last < 0:
            raise ValueError(f"last: {last!r} is negative")
        begin = start_of(self.prefix, start is None, start, self._numbers)
        streams = StreamSet(self._finder(), begin, self._longest_block_s(math.inf), bounded=True)
        if last is None:
            return self._begin(streams, math.inf, ends=True, where=where)
        return self._begin(NewestEntries(streams, last, partial(self._is_wanted, where)), math.inf, ends=True)

    def _list(self) -> Steps[list[str]]:
        """The keys of the streams that are there now, in one try."""
        try:
            found = yield from self._finder().scan()
        except redis.RedisError as error:
            raise one_try_failed(error, self.prefix, self.address) from error
        return sorted(key.decode() for key in found)

    def _is_wanted(self, where: Where | None, key: bytes, entry: Any) -> bool:
        events = self._decoder.events(key, [entry], lambda _key, _id: None)
        return any(where is None or where(event) for event in events)

    def _begin(
        self, source: StreamSet | NewestEntries, block_s: float, *, ends: bool = False, where: Where | None = None
    ) -> EventReading:
        self._reading = self._reading_of(source, block_s, ends=ends, where=where)
        self._streams = source
        return self._reading

    def _reading_of(
        self, source: Source, block_s: float, *, ends: bool = False, where: Where | None = None
    ) -> EventReading:
        if self._closed:
            raise ValueError("the reader is closed: make another")
        return EventReading(source, self._decoder, self.prefix, self.address, block_s, ends=ends, where=where)

    def group_source(
        self,
        group: str,
        consumer: str,
        from_beginning: bool,
        start: StartArgument,
        reclaim_after_s: float,
        batch_size: int,
    ) -> GroupSource:
        """A source of entries by way of a consumer group."""
        begin = start_of(self.prefix, from_beginning, start)
        block_s = self._longest_block_s(math.inf)
        settling_s = SETTLING_S if self._server.is_cluster else 0.0
        finder = self._finder()
        return GroupSource(finder, begin, group, consumer, reclaim_after_s, batch_size, block_s, settling_s)

    def follow_group(self, source: GroupSource, block_ms: int) -> EventReading:
        """A reading by way of a consumer group."""
        return self._reading_of(source, _block_s(block_ms))

    @property
    def _numbers(self) -> EntryNumbers:
        return {} if self._streams is None else self._streams.numbers

    def _finder(self) -> StreamFinder:
        return StreamFinder(self.prefix, self._discovery_interval_s)

    def _longest_block_s(self, block_s: float) -> float:
        return min(LONGEST_BLOCK_S, self._server.reply_timeout_s(block_s) / 2)


def _block_s(block_ms: int) -> float:
    if block_ms < 0:
        raise ValueError(f"block_ms: {block_ms!r} is negative")
    return block_ms / 1000 if block_ms else math.inf
