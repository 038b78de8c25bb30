"""State files of a newer release: nothing of them is read as if it were understood, and nothing written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hsm_shipper.errors import StateCorrupt, StateTooNew
from hsm_shipper.migrations import SET, STEPS
from hsm_shipper.state.database import translated


def migrations_of(connection: sqlite3.Connection, path: Path) -> set[str]:
    """The migrations that were done. `StateTooNew` if a newer release wrote the file, `StateCorrupt` if none did."""
    with translated(path, "open"):
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'").fetchone():
            return set()
        done = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (SET,))
        names = {str(name) for (name,) in done}
    newer = sorted(names - STEPS.keys())
    if newer and not names.issuperset(STEPS):  # migrations are added at the end
        raise StateCorrupt(f"state file {path} is damaged: its migrations are {', '.join(sorted(names))}")
    if newer:
        raise StateTooNew(
            f"state file {path} was written by a newer release (migration {newer[-1]!r} is unknown here)",
            "install that release again, or remove the file: it is made anew from the stream, but not what waits",
        )
    return names
