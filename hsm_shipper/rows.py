"""Rows of the state file, as actions and back, and SQLite's exceptions as errors of ours."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from hsm_shipper.actions import pack_place, unpack_place
from hsm_shipper.batched import batched
from hsm_shipper.errors import StateCorrupt, StateError, StateUnwritable
from hsm_shipper.live_action import UNKNOWN_ENTRY, LiveAction
from hsm_shipper.stream_head import Head

BUSY_TIMEOUT_S = 30.0
COLUMNS = "cat_idx, rec_idx, fid, action, status, cookie, hash, first_seen, status_since, entry_id"
# A statement costs more than what it does to one row; SQLite before 3.32 takes 999 parameters.
_ROWS_PER_INSERT = 50
_ROW_MARKS = f"({', '.join('?' * len(COLUMNS.split(', ')))})"
_INSERT = f"INSERT OR REPLACE INTO actions ({COLUMNS}) VALUES "
_INSERT_ONE = _INSERT + _ROW_MARKS
_INSERT_MANY = _INSERT + ", ".join([_ROW_MARKS] * _ROWS_PER_INSERT)

# In the order of `Head`.
_POSITION_COLUMNS = "last_stream_id, newest_entry_id, newest_entry_sha1, first_entry_id, entries, max_deleted_entry_id"
_READ_POSITION = f"SELECT {_POSITION_COLUMNS} FROM stream_position"
_WRITE_POSITION = (
    f"INSERT OR REPLACE INTO stream_position (id, {_POSITION_COLUMNS}) VALUES (1, {', '.join('?' * len(Head._fields))})"
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

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_HINTS = {
    sqlite3.SQLITE_FULL: "make room on its file system: polling goes on and recovers by itself",
    sqlite3.SQLITE_BUSY: "another program holds it locked: look for an open sqlite3 shell with a transaction",
}


def read_actions(
    connection: sqlite3.Connection, condition: str = "", parameters: Iterable[Any] = ()
) -> Iterator[LiveAction]:
    """The live actions, all or those that meet an SQL condition."""
    where = f" WHERE {condition}" if condition else ""
    return map(_action, connection.execute(f"SELECT {COLUMNS} FROM actions{where}", tuple(parameters)))


def write_actions(connection: sqlite3.Connection, actions: Iterable[LiveAction]) -> None:
    """Put the actions in their places, replacing an occupant."""
    for some in batched(map(_row, actions), _ROWS_PER_INSERT):
        if len(some) == _ROWS_PER_INSERT:
            connection.execute(_INSERT_MANY, tuple(chain.from_iterable(some)))
        else:
            connection.executemany(_INSERT_ONE, some)


def delete_actions(connection: sqlite3.Connection, actions: Iterable[LiveAction]) -> None:
    """Empty the places of the actions."""
    places = (unpack_place(action.place) for action in actions)
    connection.executemany("DELETE FROM actions WHERE cat_idx = ? AND rec_idx = ?", places)


def read_position(connection: sqlite3.Connection) -> Head | None:
    """The head of the stream that the live actions are the fold of; None before the first catch-up."""
    row = connection.execute(_READ_POSITION).fetchone()
    return None if row is None else Head(*row)


def write_position(connection: sqlite3.Connection, head: Head) -> None:
    """Replace it."""
    connection.execute(_WRITE_POSITION, head)


def has_entry_before(connection: sqlite3.Connection, entry_id: str | None) -> bool:
    """Whether any live action's entry lies before `entry_id`; with None: whether there is any live action.

    Looks at every row: some 0.1 s for 350,000.
    """
    if entry_id is None:
        return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM actions)").fetchone()[0])
    ms, _, seq = entry_id.partition("-")
    return bool(connection.execute(_HAS_ENTRY_BEFORE, (len(ms), ms, len(seq), seq)).fetchone()[0])


@contextlib.contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Raise what sqlite3 raises as `StateError`; `what` was to be done with the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        message = f"cannot {what} state file {path}: {error}"
        if primary in _CORRUPT or (what == "migrate" and primary == sqlite3.SQLITE_ERROR):
            raise StateCorrupt(message) from error
        if "no such column" in str(error):
            message = f"state file {path} was written by an earlier release"
            raise StateError(message, "its worker migrates it at its first poll: restart hsm-action-shipper") from error
        if primary in (None, sqlite3.SQLITE_ERROR):
            raise StateError(message) from error
        hint = _HINTS.get(primary, "check the folder's owner, permissions and file system")
        raise StateUnwritable(message, hint) from error


def _action(row: tuple[Any, ...]) -> LiveAction:
    cat, rec, fid, action, status, cookie, text, first_seen, status_since, entry_id = row
    digest = None if text is None else bytes.fromhex(text)
    entry = UNKNOWN_ENTRY if entry_id is None else str(entry_id).encode()
    return LiveAction.make(pack_place(cat, rec), fid, action, status, cookie, digest, first_seen, status_since, entry)


def _row(action: LiveAction) -> tuple[Any, ...]:
    cat_idx, rec_idx = unpack_place(action.place)
    cookie, digest_hex = action.cookie_and_hex
    entry = action.entry
    return (
        cat_idx,
        rec_idx,
        action.fid,
        action.action,
        action.status,
        cookie,
        digest_hex,
        action.first_seen,
        action.status_since,
        None if entry == UNKNOWN_ENTRY else entry.decode(),
    )
