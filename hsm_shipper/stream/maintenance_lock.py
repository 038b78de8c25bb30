"""The lock of the one maintenance run on a stream, in Redis: it keeps out other hosts, and whoever else maintains.

It expires unless it is renewed, so that a holder that died does not keep it. That makes it advice, not proof: a holder
that was held up for too long finds out at its next look. What a run does is safe all the same (see `cycle`), only
wasted if two do it. So a server at its maxmemory, where nothing can be set, keeps no run from trimming it: removing is
all that such a server allows.
"""

from __future__ import annotations

import logging
import os
import time
from types import TracebackType
from typing import cast
from uuid import uuid4

import redis
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from hsm_shipper.errors import LockHeld, LockLost, StreamError, StreamUnavailable
from hsm_shipper.stream.redis_errors import is_full
from hsm_shipper.stream.stream import ActionStream

_log = logging.getLogger(__name__)

# Longer than the longest wait between two looks: for a busy state file (30 s), or for a reply (15 s).
TTL_S = 60.0
# Far more often than the expiry needs: a renewal is also how a run finds out that the lock is somebody else's.
RENEW_AFTER_S = 2.0


class MaintenanceLock:
    """The lock `key`, held from `with` to its end by `host`. Raises `LockHeld`, and `StreamError` if Redis fails."""

    def __init__(self, client: redis.Redis, key: str, stream: ActionStream, host: str) -> None:
        self._client = client
        self._key = key
        self._stream = stream
        self._token = f"{host}:{os.getpid()}:{uuid4().hex}"
        # The lock is passed between threads: a token of each thread's own would lose it.
        self._lock = Lock(client, key, timeout=TTL_S, blocking=False, thread_local=False)
        self._renewed_at = 0.0
        self._is_ours = False

    def __enter__(self) -> MaintenanceLock:
        with self._stream.translated("lock the maintenance of"):
            self._is_ours = self._acquire()
            self._renewed_at = time.monotonic()
        return self

    def keep(self) -> None:
        """Renew it if that is due; `LockLost` if it is not ours any more. Cheap: call it often."""
        now = time.monotonic()
        if now - self._renewed_at < RENEW_AFTER_S or not self._is_ours:
            return
        with self._stream.translated("renew the lock of the maintenance of"):
            try:
                self._lock.extend(TTL_S, replace_ttl=True)
            except LockNotOwnedError:
                raise LockLost(f"lost the lock {self._key} ({self._holder()}): the run ends where it stands") from None
        self._renewed_at = now

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, (LockLost, StreamUnavailable)) or not self._is_ours:
            return  # it is not ours, or nobody is there to be told: it expires
        try:
            with self._stream.translated("unlock the maintenance of"):
                self._release()
        except StreamError as failure:
            _log.warning("%s; the lock expires by itself in %.0f s", failure, TTL_S)

    def _acquire(self) -> bool:
        """Whether we have it; False where Redis has no room for it, and nobody else has it either."""
        try:
            if self._lock.acquire(token=self._token):
                return True
        except redis.RedisError as error:
            if not is_full(error):
                raise
            if not self._client.exists(self._key):
                _log.warning(
                    "stream %s: Redis is at its maxmemory and has no room for the lock %s: the run goes on under the "
                    "lock of this server alone, and trims what it can",
                    self._stream.key, self._key,
                )  # fmt: skip
                return False
        raise self._held()

    def _release(self) -> None:
        try:
            self._lock.release()
        except LockNotOwnedError:
            _log.info("the lock %s was lost at the end of the run (%s)", self._key, self._holder())

    def _held(self) -> LockHeld:
        remaining_ms = self._client.pttl(self._key)
        retry_after_s = max(0, remaining_ms) / 1000  # -2: gone meanwhile, -1: without an expiry
        text = f"maintenance of stream {self._stream.key} is already running ({self._holder()}, lock {self._key})"
        return LockHeld(text, TTL_S if remaining_ms == -1 else retry_after_s)

    def _holder(self) -> str:
        """Who has it now, for people."""
        token = cast("bytes | None", self._client.get(self._key))
        if token is None:
            return "nobody holds it"
        text = token.decode(errors="replace")
        host, _, pid = text.rpartition(":")[0].rpartition(":")
        return f"held by {host}, pid {pid}" if host else f"held by {text!r}"
