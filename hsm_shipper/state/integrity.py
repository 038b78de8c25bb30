"""Upkeep of a state file beside its worker: is it sound, does SQLite want statistics, how long is its log.

Nothing here commits to the file as long as SQLite has nothing to gain: a commit by another process makes the worker
load everything again.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from hsm_shipper.errors import StateCorrupt, StateUnwritable
from hsm_shipper.state.rows import check_values, translated

_log = logging.getLogger(__name__)

# Filling a state file with 350,000 actions leaves a log of some 40 MB, which is written over from its beginning
# ever after. Beyond this somebody has kept an old snapshot open.
LOG_MAX_BYTES = 64 * 1024 * 1024
_CHECK_TIMEOUT_S = 5.0


def check(path: Path) -> None:
    """Raise `StateCorrupt` if the state file is damaged, `StateError` if it cannot be read. Reads all of it, twice."""
    with translated(path, "check"), closing(_connect(path, _CHECK_TIMEOUT_S)) as connection:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict == "ok":
            check_values(connection)
    if verdict != "ok":
        told = " ".join(str(verdict).split())  # SQLite's words have lines
        raise StateCorrupt(f"state file {path} is damaged: {told}")


def tidy(path: Path) -> None:
    """Let SQLite renew its statistics, and bring its log into the file. Never waits for the worker.

    Cutting the log makes the worker load its file again, so that is done only where it is large, and only if nobody
    is in the way. Raises `StateError`.
    """
    with translated(path, "tidy"), closing(_connect(path, 0.0)) as connection:
        connection.execute("PRAGMA optimize")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        size_bytes = _log_size_bytes(path)
        if size_bytes > LOG_MAX_BYTES:
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            text = "is in use and stays so: it is tried again next time" if busy else "is cut"
            _log.info("the log of state file %s (%.0f MB) %s", path, size_bytes / 1e6, text)


def set_aside(path: Path, damage: StateCorrupt) -> StateCorrupt:
    """Put a damaged file where it can be looked at; the worker notices at its next poll, and makes it anew.

    Returns `damage` with what became of the file. Raises `StateUnwritable` if it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.broken")
    try:
        # The file last: as long as it is there this is tried again.
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(aside)
    except OSError as failure:
        raise StateUnwritable(
            f"cannot set the broken state file {path} aside: {failure.strerror}", "remove it by hand"
        ) from damage
    return StateCorrupt(f"{damage.message}; it is set aside as {aside}", "its worker makes it anew from the stream")


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=timeout_s, isolation_level=None)


def _log_size_bytes(path: Path) -> int:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0
