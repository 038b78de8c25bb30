"""The llog of an MDT's HSM actions: which place (CAT, REC) a record gets, and the order of the listing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .records import Record, place_key

LAST_INDEX: Final = 64767
"""The last REC of an llog and the last CAT of the catalog: what the bitmap in an 8 KiB header can address."""

_CHUNK_BYTES: Final = 8192
_SMALLEST_RECORD_BYTES: Final = 24


class ActionsLlog:
    """A catalog of llogs, of which one at a time takes new records; all of it is on disk and survives a failover."""

    def __init__(self) -> None:
        self.recreate()

    def recreate(self) -> None:
        """Start again from nothing at 1/1, as when a damaged catalog has been thrown away."""
        self._records: dict[int, Record] = {}
        self._in_order = True
        self._last_key = 0
        self._cat = 0
        self.close()

    def close(self) -> None:
        """Take no more records in the current llog: the next one opens another, as after a mount."""
        self._open = False

    def open(self, cat: int | None = None) -> None:
        """Go on in a new llog at the next CAT (after the last one comes 1 again) or at `cat`."""
        cat = self._cat % LAST_INDEX + 1 if cat is None else cat
        if any(record.cat == cat for record in self._records.values()):
            raise ValueError(f"CAT {cat} still holds records; a catalog reuses an index only once its llog is empty")
        self._cat = cat
        self._rec = 0
        self._chunk_used_bytes = 0
        self._open = True

    def next_place(self, size_bytes: int) -> tuple[int, int]:
        """The place for one more record of this size.

        A record never crosses a chunk: what is left of a chunk is filled with a padding record, which takes a REC
        and is never listed. That is where the gaps in real listings come from, some 1.7 % of the RECs.
        """
        if not self._open or self._rec >= LAST_INDEX - 1:
            self.open()
        left_bytes = _CHUNK_BYTES - self._chunk_used_bytes
        if left_bytes != size_bytes and left_bytes < size_bytes + _SMALLEST_RECORD_BYTES:
            self._rec += 1
            self._chunk_used_bytes = 0
        self._rec += 1
        self._chunk_used_bytes = (self._chunk_used_bytes + size_bytes) % _CHUNK_BYTES
        return self._cat, self._rec

    def add(self, record: Record) -> None:
        """Put a record in its place, which must be free."""
        key = record.key
        if key in self._records:
            raise ValueError(f"place {record.cat}/{record.rec} is taken")
        self._in_order = self._in_order and key > self._last_key
        self._last_key = key
        self._records[key] = record

    def remove(self, record: Record) -> None:
        """Delete a record."""
        del self._records[record.key]

    def at(self, place: tuple[int, int]) -> Record | None:
        """The record in a place."""
        return self.at_key(place_key(*place))

    def at_key(self, key: int) -> Record | None:
        """The record in a place given by its `Record.key`."""
        return self._records.get(key)

    def __contains__(self, record: Record) -> bool:
        return self._records.get(record.key) is record

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        """The records in the order of the listing."""
        if not self._in_order:
            self._records = dict(sorted(self._records.items()))
            self._in_order = True
            self._last_key = max(self._records, default=0)
        return iter(self._records.values())
