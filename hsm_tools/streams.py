"""The streams that a reader follows: finding them, reading pages of them, and noticing what became of them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from typing import Any

import redis

from hsm_shipper.keys import is_mdt_name, mdt_of, stream_pattern
from hsm_tools.outages import error_code
from hsm_tools.positions import Position, StreamInfo, id_parts

# One read blocks for no longer than this, so that discovery and the looks at the streams stay on time.
_LONGEST_BLOCK_S = 1.0
# How soon an idle reader looks at its streams again; this is also how soon it finds new ones where that is cheap.
_IDLE_LOOK_INTERVAL_S = 1.0
# Entries per read, over all streams: some 3 MB, which the server sends in a few milliseconds.
_PAGE_ENTRIES = 5000
_PAGE_ENTRIES_MIN = 50
_SCAN_COUNT = 1000

logger = logging.getLogger("hsm_tools.consumer")

# A stream's name and its next entries as the server sent them: [id, [field, value, ...]] each.
Page = tuple[str, list[Any]]


class StreamSet:
    """All streams of a prefix, each with the position up to which it was read; raises what redis-py raises.

    `caught_up` says whether everything that was there at the start has been read.
    """

    def __init__(self, client: redis.Redis, prefix: str, discovery_interval_s: float, from_beginning: bool) -> None:
        self.caught_up = not from_beginning
        self._client = client
        self._prefix = prefix
        self._discovery_interval_s = discovery_interval_s
        self._positions: dict[bytes, Position] = {}
        self._history: dict[bytes, StreamInfo] = {}  # where it ends, of the streams that still have some to read
        self._started = False
        self._ignored: set[bytes] = set()
        self._scan_due_s = self._look_due_s = self._looked_at_s = -math.inf
        self._scan_is_cheap = True
        self._server_is_new = True
        self._prepare(client)

    def _prepare(self, client: redis.Redis) -> None:
        # The reply as it was sent: half the cost, and one shape for both protocols but for the outermost.
        client.set_response_callback("XREAD", lambda reply, **_options: reply)
        settings = client.connection_pool.connection_kwargs
        self._longest_block_s = min(_LONGEST_BLOCK_S, (settings.get("socket_timeout") or math.inf) / 2)
        introduce = settings.get("redis_connect_func") or (lambda connection: connection.on_connect())

        def connected(connection: Any) -> None:
            # redis-py also replaces a broken connection without a word. What answers now may be another server, or an
            # older self of the same: it is looked at before anything that it says is taken for new.
            self._server_is_new = True
            self._scan_due_s = -math.inf
            introduce(connection)

        settings["redis_connect_func"] = connected

    def read(self, limit_s: float) -> list[Page]:
        """The next entries of all streams; [] when none came within `limit_s` or, if that is less, about a second."""
        until_s = time.monotonic() + min(limit_s, self._longest_block_s)
        while True:
            if self._server_is_new or time.monotonic() >= self._look_due_s:
                self._look()
            reply = self._next(min(until_s, self._look_due_s) - time.monotonic())
            if not self._server_is_new:
                break
        pages = [self._advance(key, entries) for key, entries in reply]
        if not pages:
            self._history.clear()
            self._look_due_s = min(self._look_due_s, self._looked_at_s + _IDLE_LOOK_INTERVAL_S)
        self.caught_up = self.caught_up or not self._history
        return pages

    def scan(self) -> set[bytes]:
        """The keys of all streams of the prefix that are there now."""
        found: set[bytes] = set()
        cursor, trips = 0, 0
        while cursor or not trips:
            reply: Any = self._client.scan(cursor, stream_pattern(self._prefix), _SCAN_COUNT, _type="stream")
            cursor, keys = reply
            found.update(keys)
            trips += 1
        self._scan_is_cheap = trips == 1
        self._scan_due_s = time.monotonic() + self._discovery_interval_s
        return {key for key in found if self._is_mdt_stream(key)}

    def _is_mdt_stream(self, key: bytes) -> bool:
        if is_mdt_name(mdt_of(self._prefix, key.decode(errors="replace"))):
            return True
        if key not in self._ignored:
            self._ignored.add(key)
            logger.debug("%r is not read: it is not named after an MDT", key)
        return False

    def _next(self, block_s: float) -> Iterable[tuple[bytes, list[Any]]]:
        block_s = max(block_s, 0.001)  # 0 would be for ever
        if not self._positions:
            if self.caught_up:
                time.sleep(block_s)
            return ()
        try:
            return self._xread(block_s)
        except redis.ResponseError as error:
            if error_code(error) != "WRONGTYPE":
                raise
            self._look()  # drops the key that is no stream any more
            return self._xread(block_s) if self._positions else ()

    def _advance(self, key: bytes, entries: list[Any]) -> Page:
        last_id: bytes = entries[-1][0]
        self._positions[key].advance(last_id, len(entries))
        if key in self._history and id_parts(last_id) >= id_parts(self._history[key].last_id):
            del self._history[key]
        return key.decode(), entries

    def _xread(self, block_s: float) -> Iterable[tuple[bytes, list[Any]]]:
        count = max(_PAGE_ENTRIES_MIN, _PAGE_ENTRIES // len(self._positions))
        block_ms = math.ceil(block_s * 1000) if self.caught_up else None  # what is there comes at once
        reply: Any = self._client.xread({key: at.id for key, at in self._positions.items()}, count, block_ms)
        return reply.items() if isinstance(reply, dict) else reply or ()  # a dict from protocol 3

    def _look(self) -> None:
        """Find new streams, and see what became of the known ones."""
        scan = not self._started or self._scan_is_cheap or time.monotonic() >= self._scan_due_s
        found = self.scan() if scan else set()
        self._server_is_new = False
        for key, info in self._inspect({*self._positions, *found}).items():
            if key in self._positions:
                self._follow_up(key, info)
            elif isinstance(info, StreamInfo):
                self._positions[key] = self._first_position(key, info)
        if not self._started and not self._positions:
            logger.info("no stream matches %s yet: waiting for one", stream_pattern(self._prefix))
        self._started = True
        self._looked_at_s = time.monotonic()
        self._look_due_s = self._looked_at_s + self._discovery_interval_s

    def _first_position(self, key: bytes, info: StreamInfo) -> Position:
        if self._started:
            return Position.before_birth()
        if self.caught_up:
            return Position.at_end(info)
        self._history[key] = info
        return Position.at_beginning(info)

    def _inspect(self, keys: set[bytes]) -> dict[bytes, StreamInfo | str]:
        """What there is under each key: a stream, or its type (`none`, `string`, ...); left out when in transition."""
        ordered = sorted(keys)
        pipe = self._client.pipeline(transaction=False)
        for key in ordered:
            pipe.xinfo_stream(key)
            pipe.type(key)
        replies = pipe.execute(raise_on_error=False)
        return {
            key: found
            for key, reply, kind in zip(ordered, replies[::2], replies[1::2], strict=True)
            if (found := _found(reply, kind)) is not None
        }

    def _follow_up(self, key: bytes, info: StreamInfo | str) -> None:
        """Compare one position with what the server says now, and go on from where nothing is lost."""
        position, stream = self._positions[key], key.decode()
        if isinstance(info, StreamInfo):
            if position.went_back(info):
                self._rewind(key, info)
            missed = position.missed(info)
            if missed:
                logger.warning("%s: %d entries were removed before they could be read", stream, missed)
        elif info == "none":
            if position.exists:
                logger.warning("%s is gone (deleted or flushed): it is read from its first entry if it returns", stream)
            position.forget()
        else:
            logger.warning("%s is no stream any more but a %s: it is not read", stream, info)
            del self._positions[key]

    def _rewind(self, key: bytes, info: StreamInfo) -> None:
        """Go back to the newest entry that was read and is still there; without one, to the first entry."""
        position = self._positions[key]
        landmarks = position.landmarks(info)
        pipe = self._client.pipeline(transaction=False)
        for landmark in landmarks:
            pipe.xrange(key, landmark, landmark, 1)
        left = next((at for at, entries in zip(landmarks, pipe.execute(), strict=True) if entries), None)
        if left is None:
            consequence = "it is read again from its first entry"
        elif left == position.id:
            consequence = "all that was read is still there"
        else:
            consequence = f"entries after {left.decode()} are read again"
        logger.warning(
            "%s went back in time (rolled back, or deleted and created again): %s", key.decode(), consequence
        )
        position.rewind(left)


def _found(reply: Any, kind: Any) -> StreamInfo | str | None:
    """The replies to XINFO STREAM and TYPE, sent in this order, in one value."""
    if isinstance(reply, dict):
        return StreamInfo(reply["last-generated-id"], reply["length"], reply.get("entries-added"))
    if isinstance(kind, Exception):
        raise kind
    name: str = kind.decode()
    if name != "stream":
        return name
    if type(reply) is redis.ResponseError:  # the key came into being between the two: look again next time
        return None
    raise reply
