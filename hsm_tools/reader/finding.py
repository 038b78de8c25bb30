"""Finding the streams of a prefix, and what is under a key."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import redis

from hsm_shipper.contract.redis_keys import is_mdt_name, mdt_of, stream_pattern
from hsm_tools.reader.steps import Command, Steps

_SCAN_COUNT = 1000

logger = logging.getLogger("hsm_tools.consumer")


def check_discovery_interval(seconds: float) -> float:
    """The interval, if it is one; `ValueError` if not."""
    if not 0 < seconds < math.inf:
        raise ValueError(f"discovery_interval: {seconds!r} is no positive number of seconds")
    return seconds


class StreamFinder:
    """Looks for the streams `<prefix>:<MDT>` of one database.

    `due` says whether it is time: every `interval_s` seconds, or at every look where one round trip does it.
    """

    def __init__(self, prefix: str, interval_s: float) -> None:
        self.prefix = prefix
        self.interval_s = interval_s
        self._due_s = -math.inf
        self._is_cheap = True
        self._ignored: set[bytes] = set()

    @property
    def due(self) -> bool:
        """Whether to scan with the next look at the streams."""
        return self._is_cheap or time.monotonic() >= self._due_s

    @property
    def pattern(self) -> str:
        """What the keys are searched by, for messages."""
        return stream_pattern(self.prefix)

    def scan(self) -> Steps[set[bytes]]:
        """The keys of all streams of the prefix that are there now."""
        found: set[bytes] = set()
        cursor, trips = b"0", 0
        while cursor != b"0" or not trips:
            command = ("SCAN", cursor, "MATCH", self.pattern, "COUNT", _SCAN_COUNT, "TYPE", "stream")
            cursor, keys = yield Command(command)
            found.update(keys)
            trips += 1
        self._is_cheap = trips == 1
        self._due_s = time.monotonic() + self.interval_s
        return {key for key in found if self._is_mdt_stream(key)}

    def start_over(self) -> None:
        """Scan at the next look: it may be another server."""
        self._due_s = -math.inf

    def _is_mdt_stream(self, key: bytes) -> bool:
        if is_mdt_name(mdt_of(self.prefix, key.decode(errors="replace"))):
            return True
        if key not in self._ignored:
            self._ignored.add(key)
            logger.debug("%r is not read: it is not named after an MDT", key)
        return False


def type_found(kind: Any, reply: Any) -> str | None:
    """What a key holds by the reply to TYPE, `stream` or not; None if it changed before `reply` was sent."""
    if isinstance(kind, Exception):
        raise kind
    name: str = kind.decode()
    if name != "stream" or not isinstance(reply, Exception):
        return name
    if type(reply) is redis.ResponseError:  # the key came into being between the two: look again next time
        return None
    raise reply
