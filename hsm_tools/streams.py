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
from hsm_tools.positions import Position, StreamInfo

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
        self._started = False
        self._ignored: set[bytes] = set()
        self._scan_due_s = self._look_due_s = self._looked_at_s = -math.inf
        self._scan_is_cheap = True
        reply_timeout_s = client.connection_pool.connection_kwargs.get("socket_timeout") or math.inf
        self._longest_block_s = min(_LONGEST_BLOCK_S, reply_timeout_s / 2)
        # The reply as it was sent: half the cost, and the same for every release of redis-py.
        client.set_response_callback("XREAD", lambda reply, **_options: reply)

    def read(self, limit_s: float) -> list[Page]:
        """The next entries of all streams; [] when none came within `limit_s` or, if that is less, about a second."""
        if time.monotonic() >= self._look_due_s:
            self._look()
        block_s = max(0.001, min(limit_s, self._longest_block_s, self._look_due_s - time.monotonic()))
        pages = self._next_pages(block_s)
        if not pages:
            self.caught_up = True
            self._look_due_s = min(self._look_due_s, self._looked_at_s + _IDLE_LOOK_INTERVAL_S)
        return pages

    def look_again(self) -> None:
        """Look at every stream before anything else is read: the server may be another one, or an older self."""
        self._scan_due_s = self._look_due_s = -math.inf

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

    def _next_pages(self, block_s: float) -> list[Page]:
        if not self._positions:
            if self.caught_up:
                time.sleep(block_s)
            return []
        try:
            reply = self._xread(block_s)
        except redis.ResponseError as error:
            if error_code(error) != "WRONGTYPE":
                raise
            self._look()  # drops the key that is no stream any more
            reply = self._xread(block_s) if self._positions else ()
        pages = []
        for key, entries in reply:
            self._positions[key].advance(entries[-1][0], len(entries))
            pages.append((key.decode(), entries))
        return pages

    def _xread(self, block_s: float) -> Iterable[tuple[bytes, list[Any]]]:
        count = max(_PAGE_ENTRIES_MIN, _PAGE_ENTRIES // len(self._positions))
        block_ms = math.ceil(block_s * 1000) if self.caught_up else None  # what is there comes at once
        reply: Any = self._client.xread({key: at.id for key, at in self._positions.items()}, count, block_ms)
        return reply.items() if isinstance(reply, dict) else reply or ()  # a dict from protocol 3

    def _look(self) -> None:
        """Find new streams, and see what became of the known ones."""
        scan = self._scan_is_cheap or time.monotonic() >= self._scan_due_s
        found = self.scan() if scan else set()
        for key, info in self._inspect({*self._positions, *found}).items():
            if key in self._positions:
                self._follow_up(key, info)
            elif isinstance(info, StreamInfo):
                self._positions[key] = self._first_position(info)
        if not self._started and not self._positions:
            logger.info("no stream matches %s yet: waiting for one", stream_pattern(self._prefix))
        self._started = True
        self._looked_at_s = time.monotonic()
        self._look_due_s = self._looked_at_s + self._discovery_interval_s

    def _first_position(self, info: StreamInfo) -> Position:
        if self._started:
            return Position.before_birth()
        return Position.at_end(info) if self.caught_up else Position.at_beginning(info)

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
