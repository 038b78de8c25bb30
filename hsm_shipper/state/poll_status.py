"""A read-only view of an MDT's state file, for `status` and the tools; never waits for the worker that writes it."""

from __future__ import annotations

import fnmatch
import os
import sqlite3
from pathlib import Path

from hsm_shipper.contract.poll import Count, Poll, Time
from hsm_shipper.errors import StateCorrupt, StateError
from hsm_shipper.state.database import read
from hsm_shipper.state.newer import migrations_of
from hsm_shipper.state.values import struct

_REBUILT = "the worker rebuilds a broken one"


class PollStatus(Poll, frozen=True, kw_only=True):  # type: ignore[misc]  # msgspec can
    """The last poll of an MDT, and counters since its state file was made."""

    lines_not_understood: Count
    polls: Count
    events_new: Count
    events_update: Count
    events_purged: Count
    states_missed: Count
    last_error: str | None
    last_error_at: Time | None

    @property
    def events_shipped(self) -> int:
        """Events of every kind."""
        return self.events_new + self.events_update + self.events_purged

    @property
    def error(self) -> str | None:
        """What was wrong with this very poll; `last_error` may be of one before."""
        # Of one poll the two are one and the same float. By which is later they would not be told apart: the clock of a
        # server that has just booted may be set back, and an error of before lies ahead then.
        return self.last_error if self.last_error_at == self.last_poll_at else None


def state_file(state_dir: Path, mdt: str) -> Path:
    """Where the state of `mdt` is kept."""
    return state_dir / f"{mdt}.sqlite3"


def state_files(state_dir: Path) -> dict[str, Path]:
    """The state files below `state_dir`, by MDT. Raises `StateError` for a folder that cannot be read.

    Not by a glob, which takes that for an empty one, or raises, as the release of Python has it.
    """
    try:
        names = sorted(os.listdir(state_dir))  # noqa: PTH208 - no Path for each name that is no state file's
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        hint = "run this as the user that runs the shipper"
        raise StateError(f"cannot look into state_dir {state_dir}: {error.strerror}", hint) from None
    return {name.removesuffix(".sqlite3"): state_dir / name for name in fnmatch.filter(names, "*-MDT????.sqlite3")}


def read_poll_status(path: Path) -> PollStatus | None:
    """The status in the state file `path`; None without a file or before the first poll. Raises `StateError`."""

    def look(connection: sqlite3.Connection) -> PollStatus | None:
        migrations_of(connection, path)  # raises for a file of a newer release
        return status_in(connection)

    try:
        return read(path, "poll_status", look)
    except StateCorrupt as damage:
        raise StateCorrupt(damage.message, _REBUILT) from None


def status_in(connection: sqlite3.Connection) -> PollStatus | None:
    """The status in an open state file; None before the first poll. Raises sqlite3's errors and `ImpossibleValue`.

    Also of a file that its worker has not migrated yet: it may be the earlier release's, still running.
    """
    cursor = connection.execute("SELECT * FROM poll_status")
    row = cursor.fetchone()
    if row is None:
        return None
    found = dict(zip((column[0] for column in cursor.description), row, strict=True))
    return struct([found.get(name) for name in PollStatus.__struct_fields__], PollStatus)
