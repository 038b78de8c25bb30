"""The newest entries over all streams that somebody wants, in the order of their ids.

The streams are read backwards, page by page: what is held is a page of each and what was found, however far back the
last of it lies.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import groupby
from typing import Any, TypeAlias

from hsm_tools.reader.positions import id_before, id_parts
from hsm_tools.reader.starts import EntryNumbers
from hsm_tools.reader.steps import Pipeline, Steps
from hsm_tools.reader.streams import Page, StreamSet

_PAGE_ENTRIES = 1000
_BATCH_ENTRIES = 5000

IsWanted: TypeAlias = Callable[[bytes, Any], bool]
"""Whether an entry of a stream, by the stream's key, is wanted: one that holds no event is not."""


class NewestEntries:
    """A source of the last `count` entries that are wanted of a bounded set; these are held in memory."""

    def __init__(self, streams: StreamSet, count: int, is_wanted: IsWanted) -> None:
        self.commands, self.writes = streams.commands, streams.writes
        self.caught_up = False
        self.position = self.position_before = streams.position
        self._streams = streams
        self._count = count
        self._is_wanted = is_wanted
        self._left: list[tuple[bytes, Any]] | None = None  # (key, entry), the newest first

    def read(self, limit_s: float) -> Steps[list[Page]]:  # noqa: ARG002 - nothing is waited for
        """The next few thousand of them, as runs of entries of one stream."""
        if self._left is None:
            yield from self._find()
        assert self._left is not None
        taken = self._left[: -_BATCH_ENTRIES - 1 : -1]
        del self._left[-_BATCH_ENTRIES:]
        self.position_before = dict(self.position)
        runs = [(key, [entry for _, entry in run]) for key, run in groupby(taken, key=lambda pair: pair[0])]
        for key, entries in runs:
            self.position[key] = entries[-1][0]
        if not self._left:
            self.position = self._streams.position
            self.caught_up = True
        return runs

    @property
    def numbers(self) -> EntryNumbers:
        """As of the streams."""
        return self._streams.numbers

    def passed_over(self, key: bytes, entry_id: bytes) -> None:
        """None is: what was found is wanted."""

    def reconnected(self) -> None:
        """What was seen so far may be of another server."""
        self._streams.reconnected()

    def _find(self) -> Steps[None]:
        yield from self._streams.look()
        newest = yield from _newest(self._streams.ends, self._count, self._is_wanted)
        self._streams.skip_history()
        first = {key: entry[0] for key, entry in newest}  # the oldest comes last
        self.position = self._streams.position
        self.position |= {key: id_before(entry_id) for key, entry_id in first.items()}
        self._left = newest


class _Backwards:
    """One stream, read from its end down to `after`, which is left out."""

    def __init__(self, key: bytes, after: bytes, end: bytes) -> None:
        self.key = key
        self.page: list[Any] = []  # to be taken from its end
        self._after = id_parts(after)
        self._next = end
        self._exhausted = False

    @property
    def command(self) -> tuple[Any, ...] | None:
        """What brings the next page; None when there is no more."""
        if self._exhausted:
            return None
        return ("XREVRANGE", self.key, self._next, "-", "COUNT", _PAGE_ENTRIES)

    def add(self, reply: Any) -> None:
        """Take the reply to `command`, the newest entry first."""
        if isinstance(reply, Exception):
            raise reply
        wanted = [entry for entry in reply if id_parts(entry[0]) > self._after]
        self._exhausted = len(wanted) < _PAGE_ENTRIES
        self.page = wanted[::-1]
        if wanted:
            self._next = id_before(wanted[-1][0])


def _newest(ends: dict[bytes, tuple[bytes, bytes]], count: int, is_wanted: IsWanted) -> Steps[list[tuple[bytes, Any]]]:
    """The last `count` wanted entries after the first id up to the second of each stream, the newest first."""
    heap: list[tuple[int, int, int]] = []
    streams = [_Backwards(key, after, end) for key, (after, end) in sorted(ends.items())]

    def push(index: int) -> None:
        if streams[index].page:
            milliseconds, sequence = id_parts(streams[index].page[-1][0])
            heapq.heappush(heap, (-milliseconds, -sequence, index))

    empty = list(range(len(streams)))
    newest: list[tuple[bytes, Any]] = []
    while len(newest) < count:
        asked = [index for index in empty if streams[index].command is not None]
        replies = (yield Pipeline([streams[index].command or () for index in asked])) if asked else []
        for index, reply in zip(asked, replies, strict=True):
            streams[index].add(reply)
            push(index)
        empty.clear()
        while heap and not empty and len(newest) < count:
            index = heapq.heappop(heap)[2]
            stream = streams[index]
            entry = stream.page.pop()
            if is_wanted(stream.key, entry):
                newest.append((stream.key, entry))
            if stream.page:
                push(index)
            else:
                empty.append(index)
        if not heap and not empty:
            break
    return newest
