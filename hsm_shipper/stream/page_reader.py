"""Reads a stream page by page on one connection, and tells what that server's stream is like."""

from __future__ import annotations

from typing import Any, cast

import redis
import redis.exceptions

from hsm_shipper.contract.stream_head import Head, entry_sha1
from hsm_shipper.contract.stream_ids import EMPTY_ID
from hsm_shipper.errors import ReplayOvertaken

PAGE_ENTRIES = 1000


class PageReader:
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
        """Ask for the entries from the id `start` on, without it from the first."""
        self._connection.send_command("XRANGE", self._key, start or "-", self._until, "COUNT", PAGE_ENTRIES)
        self._asked = True

    def answer(self) -> list[Any]:
        """The page that was asked for: entries, each an id and its fields and values."""
        return cast(list[Any], self._reply())

    def head(self) -> Head:
        """The stream on the server that gives the pages."""
        try:
            info = self._command("XINFO", "STREAM", self._key)
        except redis.ResponseError:
            if self._command("EXISTS", self._key):
                raise
            return Head(EMPTY_ID, None, None, None, 0)
        told = dict(zip(info[::2], info[1::2], strict=True))
        newest, first = told[b"last-entry"], told[b"first-entry"]
        return Head.told(
            last_id=told[b"last-generated-id"],
            newest_id=newest[0] if newest else b"",
            newest_sha1=entry_sha1(newest[1]) if newest else "",
            first_id=first[0] if first else b"",
            length=told[b"length"],
            max_deleted_id=told.get(b"max-deleted-entry-id", b""),
        )

    def sha1_of(self, entry_id: str, last_id: str) -> str | None:
        """The digest of an entry as in `Head`; None if it is not there, or not the last one up to `last_id`."""
        found = self._command("XRANGE", self._key, entry_id, last_id, "COUNT", "2")
        return entry_sha1(found[0][1]) if len(found) == 1 and found[0][0] == entry_id.encode() else None

    def _command(self, *words: str) -> Any:
        self._connection.send_command(*words)
        self._asked = True
        return self._reply()

    def close(self) -> None:
        """Give the connection back."""
        if self._asked:
            self._connection.disconnect()  # an answer that nobody waits for may still come by it
        self._pool.release(self._connection)

    def _reply(self) -> Any:
        try:
            reply = self._connection.read_response()
        except redis.exceptions.AskError as error:
            # To another node, MOVED as well: what was read of this one is not put together with what that one has.
            raise ReplayOvertaken(f"stream {self._key} went to another node while it was read: {error}") from None
        self._asked = False
        return reply
