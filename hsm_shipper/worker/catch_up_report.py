"""What a worker has to say of a stream that it caught up with: how much there was, what was wrong, and who wrote it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

import msgspec

from hsm_shipper.contract.event import decode
from hsm_shipper.contract.whole import NOT_WHOLE
from hsm_shipper.errors import MalformedEvent
from hsm_shipper.stream.page_reader import Entry

_log = logging.getLogger(__name__)


class _Written(msgspec.Struct, gc=False):
    host: str | None = None


_decode_written = msgspec.json.Decoder(_Written).decode


class CaughtUp:
    """The account of one catch-up with the stream `key`."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._entries = 0
        self._malformed = 0
        self._writers: Counter[str | None] = Counter()

    def add(self, page: list[Entry], malformed: list[bytes]) -> None:
        """Count the next entries; `malformed` are the ids of those that are no events."""
        if malformed and not self._malformed:
            _log.warning("stream %s: %s", self._key, _complaint(page, malformed[0]))
        self._entries += len(page)
        self._malformed += len(malformed)
        refused = frozenset(malformed)
        self._writers.update(_writers(data for entry_id, data in page if entry_id not in refused))

    def tell(self, after: str | None, live: int, host: str) -> None:
        """Log it, for the worker on `host`; the stream was read from its beginning, or from the entry `after`."""
        _log.info(
            "caught up with stream %s %s: %d entries, %d live actions, %d malformed entries",
            self._key,
            "from its beginning" if after is None else f"from entry {after}",
            self._entries,
            live,
            self._malformed,
        )
        others = sorted((who or "an unnamed host", count) for who, count in self._writers.items() if who != host)
        if others:
            _log.info("of these, other hosts wrote: %s", ", ".join(f"{count} by {who}" for who, count in others))


def _writers(payloads: Iterable[bytes | None]) -> Iterable[str | None]:
    for data in payloads:
        try:
            yield _decode_written(data or b"").host or None
        except NOT_WHOLE:  # an event, but its host is no name
            yield None


def _complaint(page: list[Entry], entry_id: bytes) -> str:
    reason = ""
    try:
        decode(dict(page)[entry_id])
    except MalformedEvent as error:
        reason = f": {error}"
    return f"malformed entry {entry_id.decode()} is passed over{reason}"
