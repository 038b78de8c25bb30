"""Files that SQLite keeps: the one place that opens them, reads beside their writers, and tidies them.

SQLite's exceptions become errors of ours here and nowhere else.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from hsm_shipper.errors import StateCorrupt, StateError, StateUnwritable
from hsm_shipper.process.own_files import link_at, others_may_write
from hsm_shipper.state.values import ImpossibleValue

# How long the worker, and whoever corrects its file, wait for each other.
BUSY_TIMEOUT_S = 30.0
_LOOK_TIMEOUT_S = 1.0
# Filling a state file with 350,000 actions leaves a log of some 40 MB, which is written over from its beginning
# ever after. Beyond this somebody has kept an old snapshot open.
LOG_MAX_BYTES = 64 * 1024 * 1024

SUFFIXES = ("-wal", "-shm", "-journal")
"""Of the files that SQLite keeps beside one."""

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_FORBIDDEN = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
_REBUILT = "whoever writes it next sets it aside and makes it anew"
_NOT_ALLOWED = "run this as the user that runs the shipper"
_HINTS = {
    sqlite3.SQLITE_FULL: "make room on its file system: polling goes on and recovers by itself",
    # Also where there is no room for the files that SQLite keeps beside it.
    sqlite3.SQLITE_IOERR: "is its file system full? make room; else look into the kernel's log for errors of the disk",
    sqlite3.SQLITE_BUSY: "another program holds it locked: its worker, while it catches up with a long stream, or an "
    "open sqlite3 shell with a transaction",
}

_log = logging.getLogger(__name__)

Found = TypeVar("Found")


def connect(path: Path, mode: Literal["ro", "rw", "rwc"], timeout_s: float) -> sqlite3.Connection:
    """Open `path` to read, to write, or to write and make it, waiting `timeout_s` for a lock of others.

    Transactions are the caller's. Raises sqlite3's errors, and those of `_refuse_links`.
    """
    _refuse_links(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None)


def _refuse_links(path: Path) -> None:
    """Raise `StateCorrupt` for a link: by that name SQLite, or a migration, would write into somebody else's file.

    A hard link where nobody else could have put it is our own file, which a copy by links (`cp -al`) has given another
    name: what waits in it for Redis is nowhere else. Raises `StateUnwritable` where it cannot be seen what is there.
    """
    beside = path.parent
    try:
        hard = others_may_write(beside)
        for suffix in ("", *SUFFIXES):
            beside = path.with_name(path.name + suffix)
            why = link_at(beside, hard=hard)
            if why is not None:
                raise StateCorrupt(f"state file {beside} is none of ours: {why}", _REBUILT)
    except (FileNotFoundError, NotADirectoryError):
        return  # SQLite says that there is no folder
    except OSError as error:
        hint = _NOT_ALLOWED if isinstance(error, PermissionError) else _HINTS[sqlite3.SQLITE_IOERR]
        raise StateUnwritable(f"cannot look at state file {beside}: {error.strerror}", hint) from None


@contextmanager
def opened(path: Path, mode: Literal["ro", "rw", "rwc"], what: str, timeout_s: float) -> Iterator[sqlite3.Connection]:
    """An open connection for the body, closed behind it; what goes wrong is `translated`."""
    with translated(path, what), closing(connect(path, mode, timeout_s)) as connection:
        yield connection


def read(path: Path, table: str, look: Callable[[sqlite3.Connection], Found]) -> Found | None:
    """What `look` finds; None without the file, or before its writer has made `table`. Raises `StateError`.

    It waits for no writer.
    """
    try:
        if not path.exists():
            return None
        with opened(path, "ro", "read", _LOOK_TIMEOUT_S) as connection:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return look(connection) if made else None
    except OSError as error:
        raise StateError(f"cannot read state file {path}: {error.strerror}", _NOT_ALLOWED) from None
    except StateUnwritable as error:
        # Without its writer nobody else makes the -shm file.
        if _code(error.__cause__) in _FORBIDDEN and not (os.access(path, os.R_OK) and os.access(path.parent, os.W_OK)):
            raise StateUnwritable(error.message, _NOT_ALLOWED) from None
        raise


@contextmanager
def immediate(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, taken before the body runs; rolled back by `roll_back`, or by whatever the body raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        if connection.in_transaction:
            connection.execute("COMMIT")
    finally:
        roll_back(connection)


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction, if one is open, without a trace: a full disk has already rolled it back."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def tidy(path: Path) -> None:
    """Let SQLite renew its statistics, and bring its log into the file. Never waits for the worker.

    Commits nothing as long as SQLite has nothing to gain: a commit by another process makes the worker load
    everything again.
    Once all of the log is in the file, the worker writes it over from its beginning, and cuts what is beyond
    `LOG_MAX_BYTES`. Raises `StateError`.
    """
    with opened(path, "rw", "tidy", 0.0) as connection:
        connection.execute("PRAGMA optimize")
        _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        left_bytes = (pages - moved) * connection.execute("PRAGMA page_size").fetchone()[0]
        if left_bytes > LOG_MAX_BYTES:
            text = "is in use and stays so: it is tried again next time"
            _log.info("the log of state file %s (%.0f MB) %s", path, left_bytes / 1e6, text)


@contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Raise what sqlite3 raises, and values that cannot be, as `StateError`; `what` was to be done with the file."""
    try:
        yield
    except ImpossibleValue as error:
        raise StateCorrupt(f"state file {path} is damaged: {error}", _REBUILT) from error
    except UnicodeDecodeError as error:  # of SQLite's own words, which quote the schema that they complain of
        raise StateCorrupt(f"cannot {what} state file {path}: its schema is no UTF-8", _REBUILT) from error
    except sqlite3.Error as error:
        primary = _code(error)
        message = f"cannot {what} state file {path}: {error}"
        # Python's own word, without a code: a text that is no UTF-8.
        if primary is None and isinstance(error, sqlite3.OperationalError):
            raise StateCorrupt(message, _REBUILT) from error
        if primary in _CORRUPT or (what == "migrate" and primary == sqlite3.SQLITE_ERROR):
            raise StateCorrupt(message, _REBUILT) from error
        if "no such column" in str(error):
            message = f"state file {path} was written by an earlier release"
            raise StateError(message, "its worker migrates it at its first poll: restart hsm-action-shipper") from error
        if primary in (None, sqlite3.SQLITE_ERROR):
            raise StateError(message) from error
        hint = _HINTS.get(primary, "check the folder's owner, permissions and file system")
        raise StateUnwritable(message, hint) from error


def _code(error: BaseException | None) -> int | None:
    """The primary result code of an error of SQLite's; None for one of Python's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
