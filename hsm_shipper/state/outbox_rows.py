"""Rows of the table `outbox`: events that Redis has not taken yet, in order, and the sum by which damage shows.

The table `actions` is what the stream says; what it will say once the outbox is in it is the two together. A worker
keeps that in memory, and compares the list with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from hsm_shipper.contract.kernel_line import unpack_place
from hsm_shipper.errors import StateError
from hsm_shipper.process.batched import batched
from hsm_shipper.state import values as values
from hsm_shipper.state.database import read

OUTBOX_COLUMNS = "id, seen_at, kind, cat_idx, rec_idx, before_hash, hash, event"
# In the order of `OutboxSum`.
OUTBOX_SUM_COLUMNS = "outbox_events, outbox_bytes, outbox_sum"

_ROWS_PER_READ = 500
_MODULUS = 1 << 63  # what an integer of SQLite holds
_INSERT = f"INSERT INTO outbox ({OUTBOX_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# With max() or min() SQLite takes the other columns from that very row; the index gives the places in order.
_LAST_IN_PLACE = (
    "SELECT cat_idx, rec_idx, hash, max(id) FROM outbox GROUP BY cat_idx, rec_idx ORDER BY cat_idx, rec_idx"
)
_DOES_NOT_FOLLOW = """
SELECT EXISTS (
    SELECT 1 FROM (
        SELECT cat_idx, rec_idx, kind, before_hash, min(id) FROM outbox GROUP BY cat_idx, rec_idx
    ) AS first LEFT JOIN actions USING (cat_idx, rec_idx)
    WHERE CASE kind WHEN 'NEW' THEN fid IS NOT NULL ELSE fid IS NULL OR before_hash <> hash END
)
"""


class OutboxRow(NamedTuple):
    """One event that waits."""

    id: int
    seen_at: int
    """When the poll saw it that it is of; seconds since the epoch."""
    kind: str
    """As in `worker.changes`: NEW, UPDATE, REFRESH or PURGED."""
    place: int
    """Packed."""
    before: bytes | None
    """MD5 of the line that was in its place; None where there was none, or the stream does not tell it."""
    digest: bytes | None
    """MD5 of the line whose state it tells; None where it ends an action."""
    event: bytes
    """The field `data` of its entry."""


class OutboxSum(NamedTuple):
    """How much waits, and a sum over all of it."""

    events: int = 0
    bytes: int = 0
    """Of the events alone."""
    sum: int = 0

    def with_rows(self, rows: Sequence[tuple[Any, ...]]) -> OutboxSum:
        """With these columns of rows too."""
        checked = sum((2 * row[0] + 1) * crc32("\0".join(map(str, row[1:])).encode()) for row in rows)
        size = sum(len(row[-1].encode()) for row in rows)
        return OutboxSum(self.events + len(rows), self.bytes + size, (self.sum + checked) % _MODULUS)

    def without_rows(self, rows: Sequence[tuple[Any, ...]]) -> OutboxSum:
        """Without these, which are in it."""
        gone = OutboxSum().with_rows(rows)
        return OutboxSum(self.events - gone.events, self.bytes - gone.bytes, (self.sum - gone.sum) % _MODULUS)


def waiting_in(path: Path) -> int | None:
    """How many events wait in a state file that is to go; None where they cannot be counted."""
    try:
        found = read(path, "outbox", lambda file: file.execute("SELECT count(*) FROM outbox").fetchone())
    except StateError:
        return None
    return 0 if found is None else int(found[0])


def read_outbox_sum(connection: sqlite3.Connection) -> OutboxSum:
    """What the outbox holds; `ImpossibleValue` unless it is what the last commit left there. Reads all of it."""
    found = OutboxSum()
    rows = connection.execute(f"SELECT {OUTBOX_COLUMNS} FROM outbox ORDER BY id")
    while some := rows.fetchmany(_ROWS_PER_READ):
        values.words("event", [row[-1] for row in some])
        found = found.with_rows(some)
    row = connection.execute(f"SELECT {OUTBOX_SUM_COLUMNS} FROM stream_position").fetchone()
    if found != (row or OutboxSum()):
        raise values.ImpossibleValue(
            f"the {found.events} events of its outbox are not the {0 if row is None else row[0]} that its last commit "
            "left there: a part is of another time, as where an old copy was put back, or somebody edited it"
        )
    return found


def follows(connection: sqlite3.Connection) -> bool:
    """Whether the outbox goes on from the live actions as they are: somebody may have corrected them."""
    return not connection.execute(_DOES_NOT_FOLLOW).fetchone()[0]


def read_rows(connection: sqlite3.Connection, after: int, limit: int) -> list[OutboxRow]:
    """The first so many rows behind the one with the id `after`, in order."""
    found = connection.execute(
        f"SELECT {OUTBOX_COLUMNS} FROM outbox WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()
    return _rows(found) if found else []


def last_rows(connection: sqlite3.Connection, condition: str, parameters: Iterable[Any]) -> list[OutboxRow]:
    """The last row of each place that meets an SQL condition."""
    found = connection.execute(
        f"SELECT {OUTBOX_COLUMNS} FROM outbox "
        f"WHERE id IN (SELECT max(id) FROM outbox WHERE {condition} GROUP BY cat_idx, rec_idx)",
        tuple(parameters),
    ).fetchall()
    return _rows(found) if found else []


def changed_over(
    connection: sqlite3.Connection, actions: Iterator[tuple[Sequence[int], Sequence[bytes | None]]]
) -> Iterator[tuple[Sequence[int], Sequence[bytes | None]]]:
    """Packed places and MD5s of what is live once the outbox is sent, some at a time, as `actions` are those before.

    Both are in order of places.
    """
    one_by_one = chain.from_iterable(zip(*columns, strict=True) for columns in actions)
    for some in batched(_changed_over(_last_states(connection), one_by_one), _ROWS_PER_READ):
        places, digests = zip(*some, strict=True)
        yield places, digests


def _changed_over(
    last: Iterator[tuple[int, bytes | None]], actions: Iterable[tuple[int, bytes | None]]
) -> Iterator[tuple[int, bytes | None]]:
    changed = next(last, None)
    for place, digest in actions:
        while changed is not None and changed[0] < place:
            if changed[1] is not None:
                yield changed
            changed = next(last, None)
        if changed is None or changed[0] != place:
            yield place, digest
    while changed is not None:
        if changed[1] is not None:
            yield changed
        changed = next(last, None)


def write_rows(connection: sqlite3.Connection, rows: Sequence[OutboxRow]) -> list[tuple[Any, ...]]:
    """Put rows at the end, with the next ids whatever theirs are; returns them as the table has them."""
    (last_id,) = connection.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
    columns = [columns_of(row._replace(id=row_id)) for row_id, row in enumerate(rows, last_id + 1)]
    connection.executemany(_INSERT, columns)
    return columns


def delete_to(connection: sqlite3.Connection, last_id: int) -> None:
    """Remove the rows up to the one with this id."""
    connection.execute("DELETE FROM outbox WHERE id <= ?", (last_id,))


def states_in(connection: sqlite3.Connection) -> tuple[int, set[bytes]]:
    """Of the states that wait: how many another followed in their place, and the MD5s of the lines of all others."""
    last = {digest for _, digest in _last_states(connection) if digest is not None}
    rows = connection.execute("SELECT hash FROM outbox WHERE kind IN ('NEW', 'UPDATE')")
    followed = 0
    while some := rows.fetchmany(_ROWS_PER_READ):
        followed += sum(digest not in last for digest in values.digests([text for (text,) in some]))
    return followed, last


def columns_of(row: OutboxRow) -> tuple[Any, ...]:
    """A row as the table has it."""
    before, digest = (None if md5 is None else md5.hex() for md5 in (row.before, row.digest))
    return row.id, row.seen_at, row.kind, *unpack_place(row.place), before, digest, row.event.decode()


def _last_states(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes | None]]:
    """Packed place and MD5 (None: it ended) of what is the last of each place, in order of places."""
    rows = connection.execute(_LAST_IN_PLACE)
    while some := rows.fetchmany(_ROWS_PER_READ):
        cats, recs, hashes, _ = zip(*some, strict=True)
        yield from zip(values.places(cats, recs), _digests(hashes), strict=True)


def _rows(found: Sequence[tuple[Any, ...]]) -> list[OutboxRow]:
    ids, seen_at, kinds, cats, recs, before, hashes, events = zip(*found, strict=True)
    values.words("kind", kinds)
    values.times("seen_at", seen_at)
    values.words("event", events)
    payloads = [event.encode() for event in events]
    columns = (ids, seen_at, kinds, values.places(cats, recs), _digests(before), _digests(hashes), payloads)
    return list(map(OutboxRow._make, zip(*columns, strict=True)))


def _digests(texts: Sequence[Any]) -> list[bytes | None]:
    found = values.digests(texts)
    return [None if text is None else digest for text, digest in zip(texts, found, strict=True)]
