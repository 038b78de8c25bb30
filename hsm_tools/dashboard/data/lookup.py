"""What Redis still has on single actions: their entries, and their history. On a connection of its own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import NEW, Event, decode
from hsm_shipper.contract.redis_keys import data_of, stream_key
from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import MalformedEvent
from hsm_tools.fid_paths.fid2path import is_fid
from hsm_tools.reader.outages import one_try_failed
from hsm_tools.reader.server import Server
from hsm_tools.reader.steps import Command, Pipeline
from hsm_tools.record import parse_record

_PAGE_ENTRIES = 1000
_SEARCHED_MAX = 500_000
_EVENTS_MAX = 1000
# The clocks of metadata server and Redis server may differ by so much.
_CLOCK_DIFFERENCE_S = 600


class Entry(NamedTuple):
    """One entry of a stream."""

    entry_id: str
    event: Event

    @property
    def archive_id(self) -> int | None:
        """The archive that the action is for; None where the entry does not show the kernel's line."""
        record = None if self.event.raw is None else parse_record(self.event.raw)
        return None if record is None else record.archive_id


class History(NamedTuple):
    """What a stream has on one action, the oldest first."""

    entries: tuple[Entry, ...]
    searched: int
    """Entries looked at."""
    is_whole: bool
    """Whether the first of `entries` is the NEW of the action."""
    cut_short: bool
    """Whether the search was given up before the beginning of the stream, or there was too much to show."""
    until: str
    """The id that was searched up to."""


class Lookup:
    """Asks for entries; from one thread. Raises `StreamUnavailable` or `StreamRefused`."""

    def __init__(self, config: Config) -> None:
        server = Server.from_config(config)
        self._prefix = config.redis_stream_prefix
        self._address = server.address
        self._runner = server.runner(math.inf)

    def close(self) -> None:
        """Close the connection."""
        self._runner.close()

    def entries(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Entry]:
        """The entries (MDT, id) that are still there and are events."""
        keys = list(wanted)
        commands = [("XRANGE", stream_key(self._prefix, mdt), entry_id, entry_id) for mdt, entry_id in keys]
        with self._translated():
            pages = self._runner.ask(Pipeline(commands))
            for refused in (page for page in pages if isinstance(page, Exception)):
                raise refused
        found: dict[tuple[str, str], Entry] = {}
        for key, page in zip(keys, pages, strict=True):
            for entry in _events(page, b""):
                found[key] = entry
        return found

    def history(self, mdt: str, action: ActionState) -> History:
        """The entries of `action`, from its newest back to its NEW, or as far as they go."""
        needle = _needle(action)
        key = stream_key(self._prefix, mdt)
        oldest_ms = 0 if action.first_seen is None else (action.first_seen - _CLOCK_DIFFERENCE_S) * 1000
        newest = pack_id(action.entry_id)
        found: list[Entry] = []
        searched, end = 0, "+"
        until = action.entry_id
        while searched < _SEARCHED_MAX and len(found) < _EVENTS_MAX:
            page = self._page("XREVRANGE", key, end, "-")
            if searched == 0 and page:
                until = page[0][0].decode()
            searched += len(page)
            for entry in _events(page, needle):
                if is_of(action, entry.event):
                    found.append(entry)
                    if entry.event.event_type == NEW and pack_id(entry.entry_id) <= newest:
                        return History(tuple(reversed(found)), searched, True, False, until)
            if len(page) < _PAGE_ENTRIES or int(page[-1][0].partition(b"-")[0]) < oldest_ms:
                return History(tuple(reversed(found)), searched, False, False, until)
            end = f"({page[-1][0].decode()}"
        return History(tuple(reversed(found)), searched, False, True, until)

    def since(self, mdt: str, action: ActionState, history: History) -> History:
        """`history` with what came since."""
        needle = _needle(action)
        key = stream_key(self._prefix, mdt)
        found = list(history.entries)
        searched, until = history.searched, history.until
        while True:
            page = self._page("XRANGE", key, f"({until}", "+")
            searched += len(page)
            found += [entry for entry in _events(page, needle) if is_of(action, entry.event)]
            if page:
                until = page[-1][0].decode()
            if len(page) < _PAGE_ENTRIES:
                cut = len(found) > _EVENTS_MAX
                return history._replace(
                    entries=tuple(found[-_EVENTS_MAX:]),
                    searched=searched,
                    is_whole=history.is_whole and not cut,
                    cut_short=history.cut_short or cut,
                    until=until,
                )

    def _page(self, command: str, key: str, start: str, end: str) -> list[Any]:
        with self._translated():
            page: list[Any] = self._runner.ask(Command((command, key, start, end, "COUNT", _PAGE_ENTRIES)))
        return page

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise one_try_failed(error, self._prefix, self._address) from error


def is_of(action: ActionState, event: Event) -> bool:
    """Whether `event` tells of `action`: its place, and its cookie where both tell one."""
    if event.place is None:
        return event.action_key == action.action_key
    if event.place != action.place:
        return False
    if event.cookie is not None and action.cookie is not None:
        return event.cookie == action.cookie
    return event.fid == action.fid and event.action == action.action


def _needle(action: ActionState) -> bytes:
    """Bytes that an entry of the action holds however its JSON is written; empty if there may be none."""
    return action.fid.encode() if is_fid(action.fid) else b""


def _events(page: list[Any], needle: bytes) -> Iterator[Entry]:
    for entry_id, fields in page:
        data = data_of(fields)
        if data is not None and needle in data:
            with contextlib.suppress(MalformedEvent):  # counted where it is folded
                yield Entry(entry_id.decode(), decode(data))
