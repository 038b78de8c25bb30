"""What a worker has to say of a stream that it caught up with: how much there was, what was wrong, and who wrote it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from hsm_shipper.contract.event import decode
from hsm_shipper.contract.fold import Entry, Folded, Observer
from hsm_shipper.errors import MalformedEvent

_log = logging.getLogger(__name__)


class CaughtUp(Observer):
    """The account of one catch-up with the stream `key`."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.entries = 0
        """Entries read."""
        self._malformed = 0
        self._writers: Counter[str | None] = Counter()

    def page_folded(self, page: Sequence[Entry], folded: Sequence[Folded], malformed: Sequence[bytes], /) -> None:
        """Count the entries of a page, and who wrote its events."""
        if malformed and not self._malformed:
            _log.warning("stream %s: %s", self._key, _complaint(page, malformed[0]))
        self.entries += len(page)
        self._malformed += len(malformed)
        self._writers.update([event.host or None for _, event, _, _ in folded])

    def tell(self, after: str | None, live: int, host: str) -> None:
        """Log it, for the worker on `host`; the stream was read from its beginning, or from the entry `after`."""
        _log.info(
            "caught up with stream %s %s: %d entries, %d live actions, %d malformed entries",
            self._key,
            "from its beginning" if after is None else f"from entry {after}",
            self.entries,
            live,
            self._malformed,
        )
        others = sorted((who or "an unnamed host", count) for who, count in self._writers.items() if who != host)
        if others:
            _log.info("of these, other hosts wrote: %s", ", ".join(f"{count} by {who}" for who, count in others))


def _complaint(page: Sequence[Entry], entry_id: bytes) -> str:
    reason = ""
    try:
        decode(dict(page)[entry_id])
    except MalformedEvent as error:
        reason = f": {error}"
    return f"malformed entry {entry_id.decode()} is passed over{reason}"
