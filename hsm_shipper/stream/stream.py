"""One MDT's stream in Redis: where it ends, what it holds, replay and trim. Redis' errors are translated here."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.resources import files
from typing import Any, NamedTuple, cast

import redis
import redis.exceptions

from hsm_shipper.contract.acl_commands import SHIPPER_COMMANDS
from hsm_shipper.contract.event import decode
from hsm_shipper.contract.fold import Entry
from hsm_shipper.contract.redis_keys import DATA_FIELD, data_of
from hsm_shipper.contract.stream_head import Head, entry_sha1
from hsm_shipper.contract.stream_ids import next_id, pack_id, text_of
from hsm_shipper.errors import (
    EntriesLost,
    MalformedEvent,
    ReplayOvertaken,
    StreamBehind,
    StreamMoved,
    StreamRefused,
    StreamUnavailable,
)
from hsm_shipper.process.batched import batched
from hsm_shipper.stream.compare_and_append import PendingAppend
from hsm_shipper.stream.keeping import Keeping
from hsm_shipper.stream.page_reader import PAGE_ENTRIES, PageReader
from hsm_shipper.stream.redis_errors import is_denied, permission_hint, reach_hint, refusal_hint, tls_hint

_TRIM = (files("hsm_shipper.stream") / "trim.lua").read_text(encoding="ascii")

# What is made of so many entries stays in the processor's cache; all of a page of the server's does not.
_ENTRIES_AT_ONCE = 200

_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterDownError,  # and MASTERDOWN
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,  # and MOVED: nodes of a cluster that disagree for a while
)


class GroupPosition(NamedTuple):
    """A consumer group, and the id of the first entry in the stream that it has pending or was not given yet."""

    name: str
    needs_from: str


class ActionStream:
    """The stream `key`. Every method raises `StreamUnavailable` or `StreamRefused` as the server's answer is."""

    def __init__(self, client: redis.Redis, key: str, address: str, keeping: Keeping | None = None) -> None:
        """`keeping` is who has to have what is appended before an append is finished; None for the server alone."""
        self.keeping = keeping
        self._client = client
        self.pool = client.connection_pool
        self.key = key
        self.address = address
        self.round_trip_s = math.inf
        """The shortest time in which the server has replied to the script since `head` was asked for."""

    def head(self) -> Head:
        """Where the stream ends now, on a server that takes writes: `StreamRefused` on a read-only replica."""
        self.round_trip_s = math.inf  # it may be another server
        # No stream ends at '': the script finds a mismatch and tells where this one really ends.
        return self.start_append(Head("", None, None), ()).look()

    def start_append(self, expected: Head, payloads: Sequence[bytes]) -> PendingAppend:
        """Send a compare-and-append without waiting: the server works while we prepare the next one."""
        with self.translated("append to" if payloads else "look at"):
            connection = self.pool.get_connection()
            return PendingAppend(self, connection, expected, payloads)

    def compare(self, expected: Head) -> Head:
        """The stream as it is; `StreamMoved` unless it still ends at `expected`. It is tried as a write."""
        return self.start_append(expected, ()).finish()

    def confirm_kept(self) -> None:
        """Make sure that all that the stream holds now is kept as is asked for; `StreamNotKept` if not in time."""
        if self.keeping is None:
            return
        with self.translated("wait until all is kept of"):
            self.keeping.confirm(self.pool, self.key, f"what stream {self.key} at {self.address} holds")

    def entries_lost(self, found: Head) -> EntriesLost:
        """What to raise where the stream as it was `found` has lost entries (`stream_head.has_losses`)."""
        deleted = "" if found.max_deleted_id is None else f", the highest deleted {found.max_deleted_id}"
        return EntriesLost(
            f"stream {self.key} at {self.address} has lost entries that somebody else trimmed or deleted: "
            f"{found.length} are left, the first {found.first_id}{deleted}"
        )

    def holds(self, head: Head) -> bool:
        """Whether the newest entry that `head` knows is still in the stream, with the same content.

        And nothing behind it that has an id of then: that is of another server.
        """
        if head.newest_id is None:
            return False
        found = self._entries(head.newest_id, head.last_id, 2)
        return len(found) == 1 and entry_sha1(found[0]) == head.newest_sha1

    def data_of(self, entry_id: str) -> bytes | None:
        """The field `data` of an entry; None without it, or without the entry."""
        return data_of(self._fields_of(entry_id))

    def _fields_of(self, entry_id: str) -> list[bytes] | None:
        """[field, value, ...] of an entry; None without it."""
        found = self._entries(entry_id, entry_id, 1)
        return found[0] if found else None

    def _entries(self, first_id: str, last_id: str, count: int) -> list[list[bytes]]:
        """[field, value, ...] of entries. Not every client makes a dict of them."""
        with self.translated("look at"):
            found = cast(list[Any], self._client.xrange(self.key, first_id, last_id, count))
        return [
            [part for pair in fields.items() for part in pair] if isinstance(fields, dict) else fields
            for _, fields in found
        ]

    def line_digest_of(self, entry_id: bytes) -> bytes | None:
        """MD5 (16 bytes) of the line of an entry that a replay has met; None where the entry does not tell it.

        `ReplayOvertaken` if it is gone meanwhile.
        """
        text = entry_id.decode()
        try:
            return decode(self.data_of(text)).line_digest
        except MalformedEvent:
            raise ReplayOvertaken(f"entry {text} of stream {self.key} is gone while it is read") from None

    def replay(
        self,
        until: str,
        after: str | None = None,
        *,
        holding: Head | None = None,
        on_head: Callable[[Head], None] = lambda _: None,
    ) -> Iterator[list[Entry]]:
        """Pages of entries up to the id `until`, in pieces: from the first, or those behind the entry `after`.

        Each page begins with the last entry of the one before, which is looked for and left out: if it is gone, a
        trim has overtaken the replay and what was read so far is worth nothing (`ReplayOvertaken`).

        With `holding`, the server that gave the pages is asked at the end whether its stream holds that head: where
        it does not, it is another server than the one that the caller knows (a replica that is behind, an old primary
        that came back, a wrong address), and what was read is worth nothing (`StreamBehind`, `StreamMoved`). `on_head`
        is told of the stream as it is by then, where it is the same.
        """
        if after == until:
            return
        last = after
        with self.translated("replay"), closing(PageReader(self.pool, self.key, until)) as pages:
            pages.ask(last)
            while True:
                page = pages.answer()
                full = len(page) == PAGE_ENTRIES
                if last is not None:
                    if not page or page[0][0] != last.encode():
                        raise ReplayOvertaken(f"entry {last} of stream {self.key} went while it was replayed")
                    del page[0]
                if page:
                    last = page[-1][0].decode()
                    if full:
                        pages.ask(last)  # the server looks it up while the caller works on this one
                    for some in batched(page, _ENTRIES_AT_ONCE):
                        yield [
                            (entry_id, fields[1] if fields and fields[0] == DATA_FIELD else data_of(fields))
                            for entry_id, fields in some
                        ]
                if not full:
                    break
            if holding is not None:
                now = pages.head()
                self._check_held(now, holding, pages)
                on_head(now)

    def _check_held(self, now: Head, held: Head, pages: PageReader) -> None:
        # Trimmed to nothing, as maintenance does where nothing is live, it still ends where it did.
        if now.end == held.end or (now.newest_id is None and now.last_id == held.last_id):
            return
        where = f"stream {self.key} at {self.address}"
        if pack_id(now.last_id) < pack_id(held.last_id):
            raise StreamBehind(
                f"{where} ends at {now.last_id}, before {held.last_id} as the state file knows it",
                "a server that is behind is not believed: is it the primary? If it is, the worker catches up by itself",
            )
        if held.newest_id is not None and pages.sha1_of(held.newest_id, held.last_id) != held.newest_sha1:
            raise StreamMoved(f"{where} does not hold the entry {held.newest_id} as the state file knows it")
        if held.newest_id is None and now.first_id is not None and pack_id(now.first_id) <= pack_id(held.last_id):
            raise StreamMoved(f"{where} holds the entry {now.first_id}, which the state file knows to be gone")

    def length(self) -> int:
        """How many entries it has."""
        with self.translated("look at"):
            return int(self._client.xlen(self.key))

    def trim(self, min_id: str, folded_to: str) -> int | None:
        """Remove the entries below `min_id`; how many went, None where the stream ends before `folded_to`."""
        with self.translated("trim"):
            removed = cast(int, self._client.eval(_TRIM, 1, self.key, min_id, *folded_to.split("-")))
        return None if removed < 0 else removed

    def groups(self) -> list[GroupPosition]:
        """The consumer groups of the stream."""
        with self.translated("look at the consumer groups of"):
            if not self._client.exists(self.key):
                return []
            groups = self._client.xinfo_groups(self.key)
            oldest = cast(list[Any], self._client.xrange(self.key, count=1)) if groups else []
            found = []
            for info in groups:
                needs = next_id(text_of(info["last-delivered-id"]))
                if oldest:
                    # What was trimmed stays pending until somebody claims it, perhaps for ever: nobody can be given it.
                    its: list[Any] = self._client.xpending_range(self.key, info["name"], oldest[0][0], "+", 1)
                    needs = text_of(its[0]["message_id"]) if its else needs
                name = info["name"].decode(errors="backslashreplace")  # may be any bytes; this is for people
                found.append(GroupPosition(name, needs))
        return found

    @contextlib.contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Raise what redis-py raises as errors of ours; `what` was to be done with the stream."""
        try:
            yield
        except redis.RedisError as error:
            # Behind a proxy or a name that was moved the next connection may find the primary. Whatever was answered:
            # a script's READONLY comes as a plain error from Redis 6.2.
            self.pool.disconnect()
            message = f"cannot {what} stream {self.key} at {self.address}: {error}"
            tls = tls_hint(error)
            if tls is None and isinstance(error, _PASSING) and not isinstance(error, redis.AuthenticationError):
                hint = reach_hint(error, self.address, "is Redis up and reachable?")
                end = "" if hint.endswith("?") else "."
                raise StreamUnavailable(message, f"{hint}{end} It is tried again at every poll") from error
            raise StreamRefused(message, tls or self._hint(error)) from error

    def _hint(self, error: redis.RedisError) -> str:
        if is_denied(error):
            return permission_hint(error, f"{self.key} and {{{self.key}}}:*", SHIPPER_COMMANDS)
        return refusal_hint(error)
