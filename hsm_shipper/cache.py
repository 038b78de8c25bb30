"""The state file of one MDT: at every commit exactly the fold of its stream up to `last_stream_id`.

One process owns the file (under the worker's lock); people and `status` read beside it. Another process may correct
it in a transaction of its own, which shows here as `StateChanged`. SQLite's exceptions are translated here.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlite_utils import Database

from hsm_shipper.actions import pack_place, unpack_place
from hsm_shipper.changes import Change
from hsm_shipper.diff import Known
from hsm_shipper.errors import StateChanged, StateCorrupt, StateError, StateTooNew, StateUnwritable
from hsm_shipper.fold import LiveAction, LiveActions
from hsm_shipper.migrations import SET, STEPS, migrations
from hsm_shipper.state_view import PollStatus
from hsm_shipper.stream import Head

BUSY_TIMEOUT_S = 30.0
# Changes of a long list are spread over all its pages: what was read to compare is still at hand to be written.
_CACHE_KIB = 16 * 1024

T = TypeVar("T")
_COLUMNS = "cat_idx, rec_idx, fid, action, status, cookie, hash, first_seen, status_since"
_PLACES_PER_QUERY = 900  # SQLite before 3.32 takes 999 parameters
_STATUS_COLUMNS = PollStatus.__struct_fields__

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_HINTS = {
    sqlite3.SQLITE_FULL: "make room on its file system: polling goes on and recovers by itself",
    sqlite3.SQLITE_BUSY: "another program holds it locked: look for an open sqlite3 shell with a transaction",
}


class Cache:
    """The open state file. Raises `StateError` (see `errors`) from every method."""

    def __init__(self, path: Path) -> None:
        """Open `path`, making or migrating it as needed; only its owner, under the worker's lock, may."""
        self.path = path
        with _translated(path, "open"):
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        self._file_id = self._stat()
        self._version: int | None = None

    def _prepare(self) -> None:
        with _translated(self.path, "open"):
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            verdict = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StateCorrupt(f"state file {self.path} is damaged: {verdict}")
        _migrate(self._connection, self.path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def is_current(self) -> bool:
        """Whether `path` still names the file that is open: somebody may have removed or replaced it."""
        return self._stat() == self._file_id

    def load(self) -> tuple[Head | None, Known, set[int]]:
        """The position in the stream (None before the first catch-up), what is known, and the missed places."""
        with _translated(self.path, "read"), self._immediate():
            self._version = self._data_version()
            position = self._connection.execute(
                "SELECT last_stream_id, newest_entry_id, newest_entry_sha1 FROM stream_position"
            ).fetchone()
            rows = self._connection.execute("SELECT cat_idx, rec_idx, hash FROM actions ORDER BY cat_idx, rec_idx")
            known = Known((pack_place(cat, rec), _digest(text)) for cat, rec, text in rows)
            missed = {pack_place(*row) for row in self._connection.execute("SELECT cat_idx, rec_idx FROM missed")}
        return (None if position is None else Head(*position)), known, missed

    def live_actions(self) -> LiveActions:
        """The whole fold, to go on folding from."""
        live = LiveActions()
        with _translated(self.path, "read"):
            for row in self._connection.execute(f"SELECT {_COLUMNS} FROM actions"):
                live.put(_live(row))
        return live

    def actions_at(self, places: Sequence[int]) -> dict[int, LiveAction]:
        """The live actions in the given packed places."""
        found: dict[int, LiveAction] = {}
        with _translated(self.path, "read"):
            # One catalogue index a query: only so does SQLite use the primary key (a list of pairs is a scan).
            for cat_idx, same_cat in groupby(sorted(places), key=lambda place: unpack_place(place)[0]):
                for some in chunks([unpack_place(place)[1] for place in same_cat], _PLACES_PER_QUERY):
                    marks = ", ".join("?" * len(some))
                    query = f"SELECT {_COLUMNS} FROM actions WHERE cat_idx = ? AND rec_idx IN ({marks})"
                    for action in map(_live, self._connection.execute(query, (cat_idx, *some))):
                        found[action.place] = action
        return found

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction, taken before the body runs; `StateChanged` if another process committed since `load`.

        Whatever the body raises rolls it back.
        """
        with _translated(self.path, "write"), self._immediate():
            if self._data_version() != self._version:
                raise StateChanged(f"state file {self.path} was changed by another process")
            yield

    def apply(self, changes: Iterable[Change], head: Head) -> None:
        """Within a transaction: make the changes, and `head` the position that they end at."""
        gone: list[tuple[int, int]] = []
        put: list[tuple[Any, ...]] = []
        for change in changes:
            if change.after is not None:
                put.append(_row(change.after))
            elif change.before is not None:
                gone.append(unpack_place(change.before.place))
        # Purges come first in a poll: a place that one empties may be filled again by the same batch.
        self._connection.executemany("DELETE FROM actions WHERE cat_idx = ? AND rec_idx = ?", gone)
        self._put(put)
        self._set_position(head)

    def replace(self, live: LiveActions, head: Head) -> None:
        """Within a transaction: make `live`, the fold up to `head`, what is known. What was missed is void."""
        self._connection.execute("DELETE FROM actions")
        self._connection.execute("DELETE FROM missed")
        self._put(map(_row, live))
        self._set_position(head)

    def set_missed(self, places: Iterable[int]) -> None:
        """Remember which places the last complete reading missed without being believed."""
        with self.transaction():
            self._connection.execute("DELETE FROM missed")
            self._connection.executemany("INSERT INTO missed VALUES (?, ?)", map(unpack_place, places))

    def poll_status(self) -> PollStatus | None:
        """The status that the last poll left, for its counters."""
        with _translated(self.path, "read"):
            row = self._connection.execute(f"SELECT {', '.join(_STATUS_COLUMNS)} FROM poll_status").fetchone()
        return None if row is None else PollStatus(**dict(zip(_STATUS_COLUMNS, row, strict=True)))

    def save_poll_status(self, status: PollStatus) -> None:
        """Replace the status, in a transaction of its own."""
        marks = ", ".join("?" * len(_STATUS_COLUMNS))
        with _translated(self.path, "write"):
            self._connection.execute(
                f"INSERT OR REPLACE INTO poll_status (id, {', '.join(_STATUS_COLUMNS)}) VALUES (1, {marks})",
                msgspec.structs.astuple(status),
            )

    def _put(self, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * 9)
        self._connection.executemany(f"INSERT OR REPLACE INTO actions ({_COLUMNS}) VALUES ({marks})", rows)

    def _set_position(self, head: Head) -> None:
        self._connection.execute("INSERT OR REPLACE INTO stream_position VALUES (1, ?, ?, ?)", head)

    @contextlib.contextmanager
    def _immediate(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has already rolled it back
                self._connection.execute("ROLLBACK")
            raise

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _stat(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino


def open_cache(path: Path) -> tuple[Cache, str | None]:
    """Open the state file, setting a broken one aside; the second value says what was set aside, and where."""
    try:
        return Cache(path), None
    except StateCorrupt as error:
        aside = path.with_name(f"{path.name}.broken")
        try:
            path.replace(aside)
            _remove_side_files(path)
        except OSError as failure:
            raise StateUnwritable(
                f"cannot set the broken state file {path} aside: {failure.strerror}", "remove it by hand"
            ) from error
        return Cache(path), f"{error.message}; it is set aside as {aside} and made anew from the stream"


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    with _translated(path, "migrate"):
        database = Database(connection)
        if "_sqlite_migrations" in database.table_names():
            done = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (SET,))
            newer = sorted({str(name) for (name,) in done} - STEPS.keys())
            if newer:
                raise StateTooNew(
                    f"state file {path} was written by a newer release (migration {newer[-1]!r} is unknown here)",
                    "install that release again, or remove the file: it is made anew from the stream",
                )
        migrations.apply(database)


def _remove_side_files(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _translated(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        message = f"cannot {what} state file {path}: {error}"
        if primary in _CORRUPT or (what == "migrate" and primary == sqlite3.SQLITE_ERROR):
            raise StateCorrupt(message) from error
        if primary in (None, sqlite3.SQLITE_ERROR):
            raise StateError(message) from error
        hint = _HINTS.get(primary, "check the folder's owner, permissions and file system")
        raise StateUnwritable(message, hint) from error


def _digest(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _live(row: tuple[Any, ...]) -> LiveAction:
    cat, rec, fid, action, status, cookie, text, first_seen, status_since = row
    return LiveAction(
        pack_place(cat, rec), fid, action, status, cookie, _digest(text), first_seen, status_since, entry_id=""
    )


def _row(action: LiveAction) -> tuple[Any, ...]:
    digest = None if action.digest is None else action.digest.hex()
    return (
        *unpack_place(action.place),
        action.fid,
        action.action,
        action.status,
        action.cookie,
        digest,
        action.first_seen,
        action.status_since,
    )
