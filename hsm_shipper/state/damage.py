"""A damaged state file: how damage is found, and what becomes of the file. Each is made anew by whoever writes it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hsm_shipper.errors import StateCorrupt, StateUnwritable
from hsm_shipper.state.database import SUFFIXES, opened
from hsm_shipper.state.outbox_rows import waiting_in
from hsm_shipper.state.rows import check_values

_CHECK_TIMEOUT_S = 5.0


def check_for_damage(path: Path) -> None:
    """Raise `StateCorrupt` if the state file is damaged, `StateError` if it cannot be read. Reads all of it, twice."""
    with opened(path, "rw", "check", _CHECK_TIMEOUT_S) as connection:
        refuse_damage(connection, path)
        connection.execute("BEGIN")
        check_values(connection)


def refuse_damage(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `StateCorrupt` if SQLite finds damage. Reads the whole file."""
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        told = " ".join(str(verdict).split())  # SQLite's words have lines
        raise StateCorrupt(f"state file {path} is damaged: {told}")


def set_aside(path: Path, damage: StateCorrupt) -> StateCorrupt:
    """Put a damaged file where it can be looked at; who writes it notices, and makes it anew.

    Returns `damage` with what became of the file. Raises `StateUnwritable` if it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.broken")
    events = waiting_in(path)
    gone = f"; {events:,} events that waited in it for Redis are lost" if events else ""
    if events is None:
        gone = "; events that waited in it for Redis, if there were any, are lost: they cannot be counted"
    try:
        # The file last: as long as it is there this is tried again.
        for suffix in SUFFIXES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.replace(aside)
    except OSError as failure:
        raise StateUnwritable(
            f"cannot set the broken state file {path} aside: {failure.strerror}", "remove it by hand"
        ) from damage
    told = f"{damage.message}; it is set aside as {aside}{gone}"
    return StateCorrupt(told, "its worker makes it anew from the stream")
