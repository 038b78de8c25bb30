"""One MDT's stream in Redis: where its head is, compare-and-append, and replay. Redis' errors are translated here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple, cast

import redis
import redis.exceptions

from hsm_shipper.entry_ids import next_id
from hsm_shipper.errors import ReplayOvertaken, StreamMoved, StreamRefused, StreamUnavailable
from hsm_shipper.keys import DATA_FIELD, data_of
from hsm_shipper.redis_errors import is_denied, permission_hint, reach_hint, refusal_hint, tls_hint

PAGE_ENTRIES = 1000

_APPEND = (files("hsm_shipper") / "append.lua").read_text(encoding="ascii")
_TRIM = (files("hsm_shipper") / "trim.lua").read_text(encoding="ascii")
_APPEND_SHA = sha1(_APPEND.encode(), usedforsecurity=False).hexdigest()

# What a shipper sends (docs/permissions.md).
COMMANDS = (
    "+select +eval +evalsha +script|load +exists +xinfo|stream +xinfo|groups +xpending "
    "+xadd +xrange +xlen +xtrim +set +get +del +pttl +pexpire"
)

_PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterDownError,  # and MASTERDOWN
    redis.exceptions.TryAgainError,
)


class Head(NamedTuple):
    """Where a stream ends: its last-generated id, and its newest entry (None where none is left)."""

    last_id: str
    newest_id: str | None
    newest_sha1: str | None


# One entry: its id and the value of its field `data`, None without one. A bare tuple: there are many, and each is
# looked at once.
Entry = tuple[bytes, bytes | None]


class Group(NamedTuple):
    """A consumer group, and the id of the first entry that it has pending or was not given yet."""

    name: str
    needs_from: str


class ActionStream:
    """The stream `key`. Every method raises `StreamUnavailable` or `StreamRefused` as the server's answer is."""

    def __init__(self, client: redis.Redis, key: str, address: str) -> None:
        self._client = client
        self.pool = client.connection_pool
        self.key = key
        self.address = address

    def head(self) -> Head:
        """Where the stream ends now."""
        # No stream ends at '': the script finds a mismatch and tells where this one really ends.
        pending = self.start_append(Head("", None, None), (), entries_needed=False)
        _, last_id, newest_id, newest_sha1 = pending.reply()
        return Head(_text(last_id), _text(newest_id) or None, _text(newest_sha1) or None)

    def start_append(self, expected: Head, payloads: Sequence[bytes], *, entries_needed: bool) -> PendingAppend:
        """Send a compare-and-append without waiting: the server works while we prepare the next one.

        With `entries_needed` a stream without any entry has moved: live actions need theirs.
        """
        with self.translated("append to" if payloads else "look at"):
            connection = self.pool.get_connection()
            return PendingAppend(self, connection, expected, payloads, entries_needed)

    def compare(self, expected: Head, *, entries_needed: bool) -> None:
        """Raise `StreamMoved` unless the stream still ends at `expected`."""
        self.start_append(expected, (), entries_needed=entries_needed).finish()

    def holds(self, head: Head) -> bool:
        """Whether the newest entry that `head` knows is still in the stream, with the same content."""
        if head.newest_id is None:
            return False
        with self.translated("look at"):
            found = cast(list[Any], self._client.xrange(self.key, head.newest_id, head.newest_id))
        return bool(found) and _digest([part for pair in found[0][1].items() for part in pair]) == head.newest_sha1

    def replay(self, until: str, after: str | None = None) -> Iterator[list[Entry]]:
        """Pages of entries up to the id `until`: from the first, or those behind the entry `after`.

        Each page begins with the last entry of the one before, which is looked for and left out: if it is gone, a
        trim has overtaken the replay and what was read so far is worth nothing (`ReplayOvertaken`).
        """
        if after == until:
            return
        last = after
        with self.translated("replay"), closing(_PageReader(self.pool, self.key, until)) as pages:
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
                    yield [
                        (entry_id, fields[1] if fields and fields[0] == DATA_FIELD else data_of(fields))
                        for entry_id, fields in page
                    ]
                if not full:
                    return

    def length(self) -> int:
        """How many entries it has."""
        with self.translated("look at"):
            return int(self._client.xlen(self.key))

    def trim(self, min_id: str, folded_to: str) -> int | None:
        """Remove the entries below `min_id`; how many went, None where the stream ends before `folded_to`."""
        with self.translated("trim"):
            removed = cast(int, self._client.eval(_TRIM, 1, self.key, min_id, *folded_to.split("-")))
        return None if removed < 0 else removed

    def groups(self) -> list[Group]:
        """The consumer groups of the stream."""
        with self.translated("look at the consumer groups of"):
            if not self._client.exists(self.key):
                return []
            found = []
            for info in self._client.xinfo_groups(self.key):
                pending = self._client.xpending(self.key, info["name"])
                needs = _text(pending["min"]) if pending["pending"] else next_id(_text(info["last-delivered-id"]))
                found.append(Group(_text(info["name"]), needs))
        return found

    @contextlib.contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Raise what redis-py raises as errors of ours; `what` was to be done with the stream."""
        try:
            yield
        except redis.RedisError as error:
            message = f"cannot {what} stream {self.key} at {self.address}: {error}"
            tls = tls_hint(error)
            if tls is None and isinstance(error, _PASSING) and not isinstance(error, redis.AuthenticationError):
                hint = (
                    f"{reach_hint(error, self.address, 'is Redis up and reachable?')} It is tried again at every poll"
                )
                raise StreamUnavailable(message, hint) from error
            if isinstance(error, redis.exceptions.ReadOnlyError):
                self.pool.disconnect()  # behind a proxy the next connection may find the primary
            raise StreamRefused(message, tls or self._hint(error)) from error

    def _hint(self, error: redis.RedisError) -> str:
        if is_denied(error):
            return permission_hint(error, f"{self.key} and {{{self.key}}}:*", COMMANDS)
        return refusal_hint(error)


class _PageReader:
    """XRANGE page by page on a connection of its own, each asked for before the one before is used up.

    The reply is taken as it is: redis-py's way of it makes a dict of every entry and costs twice the time.
    """

    def __init__(self, pool: Any, key: str, until: str) -> None:
        self._pool = pool
        self._connection = pool.get_connection()
        self._key = key
        self._until = until
        self._asked = False

    def ask(self, start: str | None) -> None:
        self._connection.send_command("XRANGE", self._key, start or "-", self._until, "COUNT", PAGE_ENTRIES)
        self._asked = True

    def answer(self) -> list[Any]:
        page = self._connection.read_response()
        self._asked = False
        return cast(list[Any], page)

    def close(self) -> None:
        if self._asked:
            self._connection.disconnect()  # an answer that nobody waits for may still come by it
        self._pool.release(self._connection)


class PendingAppend:
    """A compare-and-append on its way: `finish` or `abandon` it."""

    def __init__(
        self,
        stream: ActionStream,
        connection: Any,
        expected: Head,
        payloads: Sequence[bytes],
        entries_needed: bool,
    ) -> None:
        self._stream = stream
        self._connection = connection  # redis-py's connections are but half typed
        self._expected = expected
        self._payloads = payloads
        self._position = (
            expected.last_id,
            expected.newest_id or "",
            expected.newest_sha1 or "",
            "1" if entries_needed else "0",
        )
        self.entry_ids: list[bytes] = []
        """The ids of the entries that were added, in order of the payloads, once it is finished."""
        self._send("EVALSHA", _APPEND_SHA)

    def finish(self) -> Head:
        """Where the stream ends now; `StreamMoved` if it was elsewhere, and then nothing was added.

        Without payloads this only compares. After `StreamUnavailable` it is not known whether they were added.
        """
        added, last_id, *rest = self.reply()
        if not added:
            raise StreamMoved(
                f"stream {self._stream.key} at {self._stream.address} ends at {_text(last_id)}, "
                f"not at {self._expected.last_id} as we left it"
            )
        if not self._payloads:
            return self._expected
        [self.entry_ids] = rest
        last_id = _text(last_id)
        return Head(last_id, last_id, _digest((DATA_FIELD, self._payloads[-1])))

    def reply(self) -> list[Any]:
        """The script's reply as it is."""
        with self._stream.translated("append to" if self._payloads else "look at"):
            try:
                reply = self._read()
            except redis.exceptions.NoScriptError:  # a server that was restarted, or has never seen it
                self._send("EVAL", _APPEND)
                reply = self._read()
        self._stream.pool.release(self._connection)
        self._connection = None
        return cast(list[Any], reply)

    def _read(self) -> Any:
        assert self._connection is not None, "finish an append once"
        try:
            return self._connection.read_response()
        except redis.exceptions.NoScriptError:
            raise
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Forget about the reply, and with it the connection that it would come by."""
        if self._connection is not None:
            self._connection.disconnect()
            self._stream.pool.release(self._connection)
            self._connection = None

    def _send(self, command: str, script: str) -> None:
        assert self._connection is not None
        try:
            self._connection.send_command(command, script, 1, self._stream.key, *self._position, *self._payloads)
        except BaseException:
            self.abandon()
            raise


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _digest(parts: Sequence[bytes]) -> str:
    """What `append.lua` computes of an entry's fields and values."""
    return sha1(b"\0".join(parts), usedforsecurity=False).hexdigest()
