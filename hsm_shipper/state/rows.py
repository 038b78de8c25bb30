"""Rows of the state file, as actions and back."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import add
from pathlib import Path
from sys import intern
from typing import Any

from hsm_shipper.contract.action_state import NO_DIGEST, UNKNOWN_ENTRY, ActionState
from hsm_shipper.contract.kernel_line import INDEX_MAX, unpack_place
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StateError
from hsm_shipper.process.batched import batched
from hsm_shipper.state import values as values
from hsm_shipper.state.content_sum import ContentSum
from hsm_shipper.state.database import read
from hsm_shipper.state.outbox_rows import OUTBOX_SUM_COLUMNS, OutboxSum, read_outbox_sum
from hsm_shipper.state.poll_status import status_in

COLUMNS = "cat_idx, rec_idx, fid, action, status, cookie, hash, first_seen, status_since, entry_id"
# A statement costs more than what it does to one row; SQLite before 3.32 takes 999 parameters.
_ROWS_PER_INSERT = 50
_ROWS_PER_READ = 500
_ROW_MARKS = f"({', '.join('?' * len(COLUMNS.split(', ')))})"
_INSERT = f"INSERT OR REPLACE INTO actions ({COLUMNS}) VALUES "
_INSERT_ONE = _INSERT + _ROW_MARKS
_INSERT_MANY = _INSERT + ", ".join([_ROW_MARKS] * _ROWS_PER_INSERT)

_ACTION_KEY = "fid || ':' || action"

# In the order of `Head`.
POSITION_COLUMNS = "last_stream_id, newest_entry_id, newest_entry_sha1, first_entry_id, entries, max_deleted_entry_id"
# In the order of `ContentSum`.
SUM_COLUMNS = "live_actions, live_actions_sum"
_READ_POSITION = f"SELECT {POSITION_COLUMNS} FROM stream_position"
_WRITE_POSITION = (
    f"INSERT OR REPLACE INTO stream_position (id, {POSITION_COLUMNS}, {SUM_COLUMNS}, {OUTBOX_SUM_COLUMNS}) "
    f"VALUES (1, {', '.join('?' * len(Head._fields + ContentSum._fields + OutboxSum._fields))})"
)

# Numbers without leading zeros sort by their length, then as text: both halves of an id may have 64 bits, one more than
# an integer of SQLite.
_HAS_ENTRY_BEFORE = """
WITH ids AS (
    SELECT substr(entry_id, 1, instr(entry_id, '-') - 1) AS ms, substr(entry_id, instr(entry_id, '-') + 1) AS seq
    FROM actions WHERE entry_id IS NOT NULL
)
SELECT EXISTS (SELECT 1 FROM ids WHERE (length(ms), ms, length(seq), seq) < (?, ?, ?, ?))
"""


def read_actions(
    connection: sqlite3.Connection, condition: str = "", parameters: Iterable[Any] = ()
) -> Iterator[ActionState]:
    """The live actions, all or those that meet an SQL condition."""
    where = f" WHERE {condition}" if condition else ""
    for columns in _columns(connection.execute(f"SELECT {COLUMNS} FROM actions{where}", tuple(parameters))):
        yield from _actions(*columns)


def actions_with_key(connection: sqlite3.Connection, action_key: str) -> Iterator[ActionState]:
    """The live actions that have this key; soon found after `index_keys`."""
    return read_actions(connection, f"{_ACTION_KEY} = ?", (action_key,))


def index_keys(connection: sqlite3.Connection) -> None:
    """Within a transaction: have actions found by their keys, until `unindex_keys`."""
    connection.execute(f"CREATE INDEX actions_by_key ON actions ({_ACTION_KEY})")


def unindex_keys(connection: sqlite3.Connection) -> None:
    """Undo `index_keys`, if it was done."""
    connection.execute("DROP INDEX IF EXISTS actions_by_key")


PlacesAndDigests = tuple[Sequence[int], Sequence[bytes | None]]


class Digests:
    """Iterate once for the packed places of all live actions, and their MD5s (None where it is not known).

    Some hundred at a time, in order of places. Behind the last one it raises `ImpossibleValue` unless these are the
    actions that the last commit left; within the transaction that changes them they are not `committed`.
    """

    def __init__(self, connection: sqlite3.Connection, *, committed: bool = True) -> None:
        self._connection = connection
        self._committed = committed
        self.found = ContentSum()

    def __iter__(self) -> Iterator[PlacesAndDigests]:
        rows = self._connection.execute("SELECT cat_idx, rec_idx, hash FROM actions ORDER BY cat_idx, rec_idx")
        for cats, recs, hashes in _columns(rows):
            places, digests = values.places(cats, recs), values.digests(hashes)
            self.found = self.found.with_rows(places, digests)
            yield places, [None if digest == NO_DIGEST else digest for digest in digests]
        if self._committed:
            self._check()

    def _check(self) -> None:
        row = self._connection.execute(f"SELECT {SUM_COLUMNS} FROM stream_position").fetchone()
        if row is not None and None not in row and row != self.found:
            raise values.ImpossibleValue(
                f"its {self.found.actions} live actions are not the {row[0]} that its last commit left there: a part "
                "is of another time, as where an old copy was put back, or somebody edited it"
            )


def read_places(connection: sqlite3.Connection, table: str) -> set[int]:
    """The packed places in a table."""
    found: set[int] = set()
    for cats, recs in _columns(connection.execute(f"SELECT cat_idx, rec_idx FROM {table}")):
        found.update(values.places(cats, recs))
    return found


def read_entries(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes | None, str]]:
    """Packed place, id of the stream entry and status of every live action; only the place is looked at here."""
    # As a blob an id is the bytes that came from the server.
    rows = connection.execute("SELECT cat_idx, rec_idx, CAST(entry_id AS BLOB), status FROM actions")
    for cats, recs, entry_ids, statuses in _columns(rows):
        yield from zip(values.places(cats, recs), entry_ids, statuses, strict=True)


def read_position(connection: sqlite3.Connection) -> Head | None:
    """The head of the stream that the live actions are the fold of; None before the first catch-up."""
    row = connection.execute(_READ_POSITION).fetchone()
    if row is None:
        return None
    last_id, newest_id, newest_sha1, first_id, entries, max_deleted_id = row
    return Head(
        values.stream_id("last_stream_id", last_id),
        *values.newest_entry(newest_id, newest_sha1),
        None if first_id is None else values.stream_id("first_entry_id", first_id),
        None if entries is None else values.count("entries", entries),
        None if max_deleted_id is None else values.stream_id("max_deleted_entry_id", max_deleted_id),
    )


def read_filled_position(connection: sqlite3.Connection, path: Path) -> Head:
    """The same of the state file `path`; `StateError` before the first catch-up."""
    head = read_position(connection)
    if head is None:
        raise StateError(f"state file {path} is not filled yet", "its worker has to poll first")
    return head


def is_filled(path: Path) -> bool:
    """Whether the worker of the state file `path` has caught up with its stream since it was made. Raises `StateError`.

    Waits for no writer.
    """
    return read(path, "stream_position", read_position) is not None


def check_values(connection: sqlite3.Connection) -> None:
    """Read every value there is, and fail as reading it would. Within a transaction: its writer may go on meanwhile."""
    read_position(connection)
    deque(Digests(connection), maxlen=0)
    read_outbox_sum(connection)
    status_in(connection)
    for table in ("missed", "refresh"):
        read_places(connection, table)
    deque(read_actions(connection), maxlen=0)


def write_actions(connection: sqlite3.Connection, actions: Iterable[ActionState]) -> None:
    """Put the actions in their places, replacing an occupant."""
    for some in batched(map(_row, actions), _ROWS_PER_INSERT):
        if len(some) == _ROWS_PER_INSERT:
            connection.execute(_INSERT_MANY, tuple(chain.from_iterable(some)))
        else:
            connection.executemany(_INSERT_ONE, some)


def delete_actions(connection: sqlite3.Connection, actions: Iterable[ActionState]) -> None:
    """Empty the places of the actions."""
    delete_places(connection, (action.place for action in actions))


def delete_places(connection: sqlite3.Connection, places: Iterable[int]) -> None:
    """Empty packed places, whether or not they are filled."""
    connection.executemany("DELETE FROM actions WHERE cat_idx = ? AND rec_idx = ?", map(unpack_place, places))


def write_position(connection: sqlite3.Connection, head: Head, content: ContentSum, outbox: OutboxSum) -> None:
    """Replace it; `content` are all live actions that there are now, `outbox` all events that wait."""
    connection.execute(_WRITE_POSITION, (*head, *content, *outbox))


def read_content_sum(connection: sqlite3.Connection) -> ContentSum:
    """What there is, be it what there should be or not: for whoever has corrected it. Reads every row."""
    rows = connection.execute("SELECT cat_idx, rec_idx, hash FROM actions")
    content = ContentSum()
    for cats, recs, hashes in _columns(rows):
        content = content.with_rows(values.places(cats, recs), values.digests(hashes))
    return content


def has_entry_before(connection: sqlite3.Connection, entry_id: str | None) -> bool:
    """Whether any live action's entry lies before `entry_id`; with None: whether there is any live action.

    Looks at every row: some 0.1 s for 350,000.
    """
    if entry_id is None:
        return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM actions)").fetchone()[0])
    ms, _, seq = entry_id.partition("-")
    return bool(connection.execute(_HAS_ENTRY_BEFORE, (len(ms), ms, len(seq), seq)).fetchone()[0])


def _columns(cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
    """The result column by column, some rows at a time."""
    while rows := cursor.fetchmany(_ROWS_PER_READ):
        yield tuple(zip(*rows, strict=True))


def _actions(
    cats: Any, recs: Any, fids: Any, words: Any, statuses: Any, cookies: Any, hashes: Any, first: Any, since: Any,
    entry_ids: Any,
) -> Iterator[ActionState]:  # fmt: skip
    return map(
        ActionState,
        values.places(cats, recs),
        values.words("fid", fids),
        map(intern, values.words("action", words)),
        map(intern, values.words("status", statuses)),
        map(add, values.digests(hashes), values.cookies(cookies)),
        values.times("first_seen", first),
        # Mostly the same moment: one object for both.
        [
            begun if when == begun else when
            for when, begun in zip(values.times("status_since", since), first, strict=True)
        ],
        values.entries(entry_ids),
    )


def _row(action: ActionState) -> tuple[Any, ...]:
    # Without `unpack_place` and the like, which would be a third of what this takes: a first ship writes every line.
    place, mark, entry = action.place, action.mark, action.entry
    digest = mark[:16]
    return (
        place >> 32,
        place & INDEX_MAX,
        action.fid,
        action.action,
        action.status,
        mark[16:].decode() or None,
        None if digest == NO_DIGEST else digest.hex(),
        action.first_seen,
        action.status_since,
        None if entry == UNKNOWN_ENTRY else entry.decode(),
    )
