"""The consumer API: one iterator over the events of every MDT's stream.

    from lustre_hsm_action_stream.consumer import StreamReader

    for event in StreamReader(host="redis").events():
        print(event.data["mdt"], event.data["fid"], event.data["status"])

Events of one stream come in order, and none is skipped that the server still has:

- Without `from_beginning` the end of each stream is looked up once; a stream born later is read from its first entry.
- Trouble with the connection is waited out for ever and nothing is passed over for it. What only a person can put
  right (a password, a permission, another kind of server) is raised as `StreamRefused`.
- Streams that were deleted, rolled back, or trimmed before they were read are noticed within the discovery interval
  (a second or so when idle) and said in the log `hsm_tools.consumer`. Reading goes on from where nothing is lost:
  after a rollback, entries that cannot be told from new ones come a second time.
- An entry that holds no JSON object is counted in `malformed`, said in the log at a low rate, and passed over.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Literal, NamedTuple, overload

import msgspec
import redis

from hsm_shipper.config import Config
from hsm_shipper.connection import client_kwargs, connect
from hsm_shipper.errors import StreamUnavailable
from hsm_shipper.keys import DATA_FIELD, DEFAULT_PREFIX, check_prefix
from hsm_tools.outages import Outage, passes, refusal
from hsm_tools.streams import StreamSet

# With `block_ms`, a server that no longer answers holds up a None for no longer than this.
_SHORTEST_TIMEOUT_S = 2.0
_MALFORMED_REPORT_INTERVAL_S = 60.0

logger = logging.getLogger(__name__)
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class StreamEvent(NamedTuple):
    """One event: the key of its stream, the id of its entry, and its JSON object (see `hsm_shipper.events`)."""

    stream: str
    id: str
    data: dict[str, Any]


class StreamReader:
    """Reads all streams `<prefix>:<MDT>` of one Redis database.

    `discovery_interval` is the longest time in seconds until a new stream is found; in a database with few keys it
    takes about one. `redis_kwargs` go to `redis.Redis` (`username`, `password`, `ssl`, `unix_socket_path`, ...) and
    win over the reader's own settings; only `decode_responses` means nothing here.

    `malformed` counts the entries that were passed over. Nothing is sent before the first event is asked for.
    Raises `ConfigError` for a prefix, `ValueError` or `TypeError` for an argument that cannot be used.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        db: int = 1,
        prefix: str = DEFAULT_PREFIX,
        discovery_interval: float = 60,
        **redis_kwargs: Any,
    ) -> None:
        if not 0 < discovery_interval < math.inf:
            raise ValueError(f"discovery_interval: {discovery_interval!r} is no positive number of seconds")
        if "connection_pool" in redis_kwargs:
            raise ValueError("connection_pool: the reader makes its own; give host, port and the like")
        kwargs = client_kwargs(Config(redis_host=host, redis_port=port, redis_db=db)) | redis_kwargs
        self._connect: Callable[[], redis.Redis] = functools.partial(redis.Redis, **kwargs)
        self._connect().close()  # an argument that redis-py does not know is an error now, not at the first event
        self._prefix = check_prefix(prefix)
        self._discovery_interval_s = discovery_interval
        self._malformed_report_due_s = -math.inf
        self.malformed = 0

    @classmethod
    def from_config(cls, config: Config, discovery_interval: float = 60) -> StreamReader:
        """A reader of the streams that a loaded configuration names; `ConfigError` for one that cannot be used."""
        reader = cls(prefix=config.redis_stream_prefix, discovery_interval=discovery_interval)
        reader._connect = functools.partial(connect, config)
        reader._connect().close()
        return reader

    @overload
    def events(self, from_beginning: bool = ..., block_ms: Literal[0] = ...) -> Generator[StreamEvent]: ...

    @overload
    def events(self, from_beginning: bool = ..., block_ms: int = ...) -> Generator[StreamEvent | None]: ...

    def events(self, from_beginning: bool = False, block_ms: int = 0) -> Generator[StreamEvent | None]:
        """Yield events as they arrive, for ever; every call is a reading of its own.

        `from_beginning`: first everything that the streams hold. `block_ms`: yield None whenever that many
        milliseconds pass without an event; with 0 there is never a None. With `from_beginning` the first None marks
        the end of history: none comes before all that was there has been read, not even while Redis is away.

        Raises `StreamRefused` when the server refuses in a way that will not pass.
        """
        return _flat(self.batches(from_beginning, block_ms))

    def batches(self, from_beginning: bool = False, block_ms: int = 0) -> Generator[list[StreamEvent]]:
        """Yield what `events` yields, in lists of events that arrived together; an empty list stands for None."""
        if block_ms < 0:
            raise ValueError(f"block_ms: {block_ms!r} is negative")
        return self._batches(from_beginning, block_ms / 1000 if block_ms else math.inf)

    def streams(self) -> list[str]:
        """Keys of the streams that are there now, sorted; one try.

        Raises `StreamUnavailable` without a server, `StreamRefused` if it refuses.
        """
        with closing(self._client(math.inf)) as client:
            try:
                found = self._stream_set(client, from_beginning=True).scan()
            except redis.RedisError as error:
                address = _address(client)
                if not passes(error):
                    raise refusal(error, self._prefix, address) from error
                hint = "check the address, and that the server is running"
                raise StreamUnavailable(f"no answer from Redis at {address}: {error}", hint) from error
        return sorted(key.decode() for key in found)

    def _batches(self, from_beginning: bool, block_s: float) -> Generator[list[StreamEvent]]:
        with closing(self._client(block_s)) as client:
            streams = self._stream_set(client, from_beginning)
            outage = Outage(_address(client))
            quiet_at_s = time.monotonic() + block_s
            while True:
                limit_s = max(0.0, quiet_at_s - time.monotonic()) if streams.caught_up else math.inf
                batch = self._read(streams, outage, limit_s)
                if batch or (streams.caught_up and time.monotonic() >= quiet_at_s):
                    yield batch
                    quiet_at_s = time.monotonic() + block_s

    def _read(self, streams: StreamSet, outage: Outage, limit_s: float) -> list[StreamEvent]:
        """What arrives next, or nothing once `limit_s` is over at the latest; trouble that passes is noted."""
        if not outage.wait(limit_s):
            return []
        try:
            pages = streams.read(limit_s)
        except redis.RedisError as error:
            if not passes(error):
                raise refusal(error, self._prefix, outage.address) from error
            outage.failed(error)
            return []
        outage.ended()
        return [event for stream, entries in pages for event in self._decoded(stream, entries)]

    def _decoded(self, stream: str, entries: list[Any]) -> Generator[StreamEvent]:
        for entry_id, fields in entries:
            try:
                data = _decode_object(fields[1] if fields[0] == DATA_FIELD else fields[_data_index(fields)])
            except (ValueError, RecursionError) as error:  # msgspec's errors and bad UTF-8 are ValueErrors
                self._pass_over(stream, entry_id, error)
            else:
                yield StreamEvent(stream, entry_id.decode(), data)

    def _pass_over(self, stream: str, entry_id: bytes, error: Exception) -> None:
        self.malformed += 1
        now_s = time.monotonic()
        if now_s >= self._malformed_report_due_s:
            self._malformed_report_due_s = now_s + _MALFORMED_REPORT_INTERVAL_S
            entry = f"{stream} {entry_id.decode()}"
            logger.warning("%s is malformed and passed over (%s); %d so far", entry, error, self.malformed)

    def _stream_set(self, client: redis.Redis, from_beginning: bool) -> StreamSet:
        return StreamSet(client, self._prefix, self._discovery_interval_s, from_beginning)

    def _client(self, block_s: float) -> redis.Redis:
        client = self._connect()
        settings = client.connection_pool.connection_kwargs
        settings["decode_responses"] = False
        for name in ("socket_timeout", "socket_connect_timeout"):
            if settings.get(name) is not None:
                settings[name] = min(settings[name], max(_SHORTEST_TIMEOUT_S, block_s))
        return client


def _flat(batches: Generator[list[StreamEvent]]) -> Generator[StreamEvent | None]:
    with closing(batches):
        for batch in batches:
            if batch:
                yield from batch
            else:
                yield None


def _data_index(fields: list[bytes]) -> int:
    """Where in [field, value, ...] the value of the field `data` is."""
    try:
        return fields[::2].index(DATA_FIELD) * 2 + 1
    except ValueError:
        raise ValueError("it has no field 'data'") from None


def _address(client: redis.Redis) -> str:
    """Where the server is, for messages."""
    settings = client.connection_pool.connection_kwargs
    if "path" in settings:
        return f"unix://{settings['path']}?db={settings.get('db', 0)}"
    return f"redis://{settings.get('host', 'localhost')}:{settings.get('port', 6379)}/{settings.get('db', 0)}"
