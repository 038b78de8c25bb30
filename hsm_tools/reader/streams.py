"""The streams that a reader follows: finding them, reading pages of them, and noticing what became of them."""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_right
from collections.abc import Generator
from typing import Any, TypeAlias

import redis

from hsm_shipper.contract.acl_commands import READER_COMMANDS
from hsm_shipper.stream.redis_errors import error_code
from hsm_tools.reader.finding import StreamFinder, type_found
from hsm_tools.reader.positions import Position, StreamInfo, id_parts
from hsm_tools.reader.starts import EntryNumbers, Start
from hsm_tools.reader.steps import Command, Pause, Pipeline, Steps, pages

# One read blocks for no longer than this, so that discovery and the looks at the streams stay on time.
LONGEST_BLOCK_S = 1.0
# How soon an idle reader looks at its streams again; this is also how soon it finds new ones where that is cheap.
IDLE_LOOK_INTERVAL_S = 1.0
# Entries per read, over all streams: some 3 MB, which the server sends in a few milliseconds.
_PAGE_ENTRIES = 5000
_PAGE_ENTRIES_MIN = 50

logger = logging.getLogger("hsm_tools.consumer")

# A stream's key and its next entries as the server sent them: [id, [field, value, ...]] each.
Page: TypeAlias = tuple[bytes, list[Any]]


class StreamSet:
    """All streams of a prefix, each with the position up to which it was read; throws nothing but redis-py's errors.

    `caught_up` says whether everything that was there at the start has been read. A `bounded` set reads just that:
    what the streams hold beyond the ends that they had at the first look, it leaves.
    """

    commands = READER_COMMANDS
    writes = False

    def __init__(self, finder: StreamFinder, start: Start, longest_block_s: float, *, bounded: bool = False) -> None:
        self.caught_up = start.at_end
        self.position_before: dict[bytes, bytes] = {}
        """The position before the pages that `read` returned last."""
        self._finder = finder
        self._start = start
        self._bounded = bounded
        self._longest_block_s = longest_block_s
        self._positions: dict[bytes, Position] = {}
        self._history: dict[bytes, StreamInfo] = {}  # where it ends, of the streams that still have some to read
        self._started = False
        self._look_due_s = self._looked_at_s = -math.inf
        self._server_is_new = True

    @property
    def position(self) -> dict[bytes, bytes]:
        """The id of the last entry that was read of each stream there is; before the first look, what was saved."""
        if not self._started:
            return dict(self._start.saved or {})
        return {key: at.id for key, at in self._positions.items() if at.exists}

    @property
    def numbers(self) -> EntryNumbers:
        """The numbers of the last entries that were read, as far as they are known."""
        return {(key, at.id): at.number for key, at in self._positions.items() if at.number is not None}

    @property
    def ends(self) -> dict[bytes, tuple[bytes, bytes]]:
        """Of the streams with some history left: the id read up to, and that of the end."""
        return {key: (self._positions[key].id, info.last_id) for key, info in self._history.items()}

    def reconnected(self) -> None:
        """redis-py also replaces a broken connection without a word.

        What answers now may be another server, or an older self of the same: it is looked at before anything that it
        says is taken for new.
        """
        self._server_is_new = True
        self._finder.start_over()

    def read(self, limit_s: float) -> Steps[list[Page]]:
        """The next entries of all streams; [] when none came within `limit_s` or, if that is less, about a second."""
        begun_s = time.monotonic()
        until_s = begun_s + min(limit_s, self._longest_block_s)
        while True:
            if self._server_is_new or time.monotonic() >= self._look_due_s:
                yield from self.look()
            reply = yield from self._next(min(until_s, self._look_due_s) - time.monotonic())
            if not self._server_is_new:
                break
        self.position_before = self.position
        read = [page for page in self._within_ends(reply) if page[1]] if self._bounded else reply
        for key, entries in read:
            self._advance(key, entries)
        if not read:
            self._history.clear()
            if self._bounded and self._looked_at_s < begun_s:
                yield from self.look()  # the last one: what was removed meanwhile is said
            self._look_due_s = min(self._look_due_s, self._looked_at_s + IDLE_LOOK_INTERVAL_S)
        if not (self._bounded and read):
            self.caught_up = self.caught_up or not self._history
        return read

    def passed_over(self, key: bytes, entry_id: bytes) -> None:
        """It counts as read."""

    def skip_history(self) -> None:
        """Read no more of it: the streams count as read up to the ends that were seen."""
        for key, info in self._history.items():
            self._positions[key] = Position.at_end(info)
        self._history.clear()
        self.caught_up = True

    def look(self) -> Steps[None]:
        """Find new streams, and see what became of the known ones."""
        scan = not self._started or self._finder.due
        found = (yield from self._finder.scan()) if scan else set()
        if not self._started:
            found |= self._start.saved_keys
        self._server_is_new = False
        for key, info in (yield from self._inspect({*self._positions, *found})).items():
            if key in self._positions:
                yield from self._follow_up(key, info)
            elif not self._started:
                yield from self._begin(key, info)
            elif isinstance(info, StreamInfo):
                self._positions[key] = Position.before_birth()
        if not self._started and not self._positions:
            logger.info("no stream matches %s yet: waiting for one", self._finder.pattern)
        self._started = True
        self._looked_at_s = time.monotonic()
        self._look_due_s = self._looked_at_s + self._finder.interval_s

    def _next(self, block_s: float) -> Steps[list[Page]]:
        block_s = max(block_s, 0.001)  # 0 would be for ever
        if not self._wanted:
            if self.caught_up and not self._bounded:
                yield Pause(block_s)
            return []
        try:
            return (yield from self._xread(block_s))
        except redis.ResponseError as error:
            if error_code(error) != "WRONGTYPE":
                raise
        yield from self.look()  # drops the key that is no stream any more
        return (yield from self._xread(block_s)) if self._wanted else []

    @property
    def _wanted(self) -> list[bytes]:
        return [*self._history] if self._bounded else [*self._positions]

    def _xread(self, block_s: float) -> Steps[list[Page]]:
        keys = self._wanted
        count = max(_PAGE_ENTRIES_MIN, _PAGE_ENTRIES // len(keys))
        block = ("BLOCK", math.ceil(block_s * 1000)) if self.caught_up else ()  # what is there comes at once
        ids = [self._positions[key].id for key in keys]
        reply = yield Command(("XREAD", "COUNT", count, *block, "STREAMS", *keys, *ids))
        return [(key, entries) for key, entries in pages(reply)]

    def _within_ends(self, reply: list[Page]) -> Generator[Page]:
        """What of the pages is history; a stream that has no more of it is done."""
        for key in self._history.keys() - {key for key, _ in reply}:
            del self._history[key]
        for key, entries in reply:
            end = id_parts(self._history[key].last_id)
            inside = bisect_right(entries, end, key=lambda entry: id_parts(entry[0]))
            if inside < len(entries):
                del self._history[key]
            yield key, entries[:inside]

    def _advance(self, key: bytes, entries: list[Any]) -> None:
        last_id: bytes = entries[-1][0]
        self._positions[key].advance(last_id, len(entries))
        if key in self._history and id_parts(last_id) >= id_parts(self._history[key].last_id):
            del self._history[key]

    def _begin(self, key: bytes, info: StreamInfo | str) -> Steps[None]:
        """Take up a stream at the first look; one that a saved position names may be gone by now."""
        if isinstance(info, StreamInfo):
            self._positions[key] = position = self._start.position(key, info)
            if not self.caught_up and position.id != info.last_id:
                self._history[key] = info
            yield from self._follow_up(key, info)
        elif key in self._start.saved_keys:
            self._positions[key] = self._start.saved_position(key)
            yield from self._follow_up(key, info)

    def _say_gap(self, key: bytes, info: StreamInfo) -> None:
        """Say what may be lost behind a position; how many entries that were, the server does not know."""
        position = self._positions[key]
        read_to = position.id.decode()
        if not position.overtaken(info):
            return
        if info.first_id is None:
            consequence = "all that followed was removed before it could be read"
        else:
            consequence = f"entries up to {info.first_id.decode()}, the first one left, may have been removed unread"
        logger.warning("%s: since the position %s %s", key.decode(), read_to, consequence)

    def _inspect(self, keys: set[bytes]) -> Steps[dict[bytes, StreamInfo | str]]:
        """What there is under each key: a stream, or its type (`none`, `string`, ...); left out when in transition."""
        ordered = sorted(keys)
        if not ordered:
            return {}
        replies = yield Pipeline([command for key in ordered for command in (("XINFO", "STREAM", key), ("TYPE", key))])
        return {
            key: found
            for key, reply, kind in zip(ordered, replies[::2], replies[1::2], strict=True)
            if (found := _found(reply, kind)) is not None
        }

    def _follow_up(self, key: bytes, info: StreamInfo | str) -> Steps[None]:
        """Compare one position with what the server says now, and go on from where nothing is lost."""
        position, stream = self._positions[key], key.decode()
        if isinstance(info, StreamInfo):
            if position.went_back(info):
                yield from self._rewind(key, info)
            self._say_gap(key, info)
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
            self._history.pop(key, None)

    def _rewind(self, key: bytes, info: StreamInfo) -> Steps[None]:
        """Go back to the newest entry that was read and is still there; without one, to the first entry."""
        position = self._positions[key]
        landmarks = position.landmarks(info)
        replies = (yield Pipeline([("XRANGE", key, at, at, "COUNT", 1) for at in landmarks])) if landmarks else []
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        left = next((at for at, entries in zip(landmarks, replies, strict=True) if entries), None)
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
    found = type_found(kind, reply)
    return found if found != "stream" or isinstance(reply, Exception) else StreamInfo.of(reply)
