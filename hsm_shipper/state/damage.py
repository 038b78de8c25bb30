"""Upkeep of a state file beside its worker: is it sound, does SQLite want statistics, how long is its log.

Nothing here commits to the file as long as SQLite has nothing to gain: a commit by another process makes the worker
load everything again.
"""

from __future__ import annotations

import logging
from pathlib import Path

from hsm_shipper.state.database import LOG_MAX_BYTES, opened, refuse_damage
from hsm_shipper.state.rows import check_values

_log = logging.getLogger(__name__)

_CHECK_TIMEOUT_S = 5.0


def check(path: Path) -> None:
    """Raise `StateCorrupt` if the state file is damaged, `StateError` if it cannot be read. Reads all of it, twice."""
    with opened(path, "rw", "check", _CHECK_TIMEOUT_S) as connection:
        refuse_damage(connection, path)
        check_values(connection)


def tidy(path: Path) -> None:
    """Let SQLite renew its statistics, and bring its log into the file. Never waits for the worker.

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
