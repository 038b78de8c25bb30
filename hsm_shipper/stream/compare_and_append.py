"""Compare-and-append: entries are added only if the stream is still where their batch was computed from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import redis.exceptions

from hsm_shipper.contract.redis_keys import DATA_FIELD
from hsm_shipper.contract.stream_head import Head, entry_sha1
from hsm_shipper.contract.stream_ids import text_of
from hsm_shipper.errors import StreamMoved
from hsm_shipper.stream.cluster import REDIRECTIONS_MAX

if TYPE_CHECKING:
    from hsm_shipper.stream.stream import ActionStream

_SCRIPT = (files("hsm_shipper.stream") / "compare_and_append.lua").read_text(encoding="ascii")
_SCRIPT_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class PendingAppend:
    """A compare-and-append on its way: `finish` or `abandon` it."""

    def __init__(
        self,
        stream: ActionStream,
        connection: Any,
        expected: Head,
        payloads: Sequence[bytes],
    ) -> None:
        self._stream = stream
        self._connection = connection  # redis-py's connections are but half typed
        self._expected = expected
        self._payloads = payloads
        self._position = (
            expected.last_id,
            expected.newest_id or "",
            expected.newest_sha1 or "",
            expected.first_id or "",
            "" if expected.length is None else str(expected.length),
            expected.max_deleted_id or "",
        )
        self.found = expected
        """The stream before anything was added, once it is finished."""
        self.entry_ids: list[bytes] = []
        """The ids of the entries that were added, in order of the payloads, once it is finished."""
        self.reply_s = 0.0
        """Seconds from sending it to having read the reply, once it is finished."""
        self.waited_s = 0.0
        """How much of that passed in nothing but waiting."""
        self._send("EVALSHA", _SCRIPT_SHA)

    def finish(self) -> Head:
        """The stream now; `StreamMoved` if it was not as expected, and then nothing was added.

        Without payloads this only compares. After `StreamNotKept` they were added, after `StreamUnavailable` it is not
        known whether they were. That the stream ends as expected does not say that it still holds everything that it
        should: see `stream_head.has_losses` for `found`.
        """
        matched, self.found, self.entry_ids = self._reply()
        if not matched:
            raise self._difference()
        if not self._payloads:
            return self.found
        return self.found.grown(list(map(text_of, self.entry_ids)), entry_sha1((DATA_FIELD, self._payloads[-1])))

    def look(self) -> Head:
        """The stream now, whatever was expected."""
        return self._reply()[1]

    def _difference(self) -> StreamMoved:
        found, expected = self.found, self._expected
        where = f"stream {self._stream.key} at {self._stream.address}"
        if found.last_id != expected.last_id:
            return StreamMoved(f"{where} ends at {found.last_id}, not at {expected.last_id} as we left it")
        if found.newest_id is not None and found.end != expected.end:
            return StreamMoved(f"{where} has another newest entry than {expected.newest_id}, which we left there")
        return self._stream.entries_lost(found)

    def _reply(self) -> tuple[bool, Head, list[bytes]]:
        with self._stream.translated("append to" if self._payloads else "look at"):
            reply = self._read_from_where_it_is()
            if self._payloads and reply[0]:
                self._wait_until_kept()
        self._stream.pool.release(self._connection)
        self._connection = None
        matched, *told, entry_ids = reply
        return bool(matched), Head.told(*told), entry_ids

    def _wait_until_kept(self) -> None:
        stream, number = self._stream, len(self._payloads)
        if stream.keeping is None:
            return
        entries = "an entry" if number == 1 else f"{number:,} entries"
        try:
            stream.keeping.wait(self._connection, f"{entries} of stream {stream.key} at {stream.address}: it")
        except BaseException:
            self.abandon()
            raise

    def _read_from_where_it_is(self) -> Any:
        for _ in range(REDIRECTIONS_MAX):
            try:
                return self._read(redis.exceptions.NoScriptError, redis.exceptions.AskError)
            except redis.exceptions.NoScriptError:  # a server that was restarted, or has never seen it
                self._send("EVAL", _SCRIPT)
            except redis.exceptions.AskError:  # MOVED as well: nothing was done, and the connection knows where to go
                self._connection.disconnect()
                self._send("EVALSHA", _SCRIPT_SHA)
        return self._read()

    def _read(self, *expected: type[redis.RedisError]) -> Any:
        """The reply; the connection is kept only for what is `expected`."""
        assert self._connection is not None, "finish an append once"
        begun = time.monotonic()
        try:
            reply = self._connection.read_response()
        except expected:
            raise
        except BaseException:
            self.abandon()
            raise
        now = time.monotonic()
        self.reply_s, self.waited_s = now - self._sent_at, now - begun
        self._stream.round_trip_s = min(self._stream.round_trip_s, self.reply_s)
        return reply

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
        self._sent_at = time.monotonic()
