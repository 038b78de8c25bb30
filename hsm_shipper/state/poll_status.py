"""A read-only view of an MDT's state file, for `status` and the tools; never waits for the worker that writes it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

import msgspec

from hsm_shipper.errors import StateCorrupt, StateError
from hsm_shipper.state.values import Count, ImpossibleValue, Time, struct

_REBUILT = "the worker rebuilds a broken one"

NOT_ALLOWED = "run this as the user that runs the shipper"
_FORBIDDEN = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}


class PollStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the last poll of an MDT went. Times are seconds since the epoch; counters run since the file was made."""

    mdt: str
    host: str
    pid: Count
    polls: Count
    last_poll_at: Time
    last_poll_duration_s: Time
    lines: Count
    live: Count
    backlog: Count
    events_new: Count
    events_update: Count
    events_purged: Count
    states_missed: Count
    lines_not_understood: Count
    last_error: str | None
    last_error_at: Time | None

    @property
    def events_shipped(self) -> int:
        """Events of every kind."""
        return self.events_new + self.events_update + self.events_purged


def state_file(state_dir: Path, mdt: str) -> Path:
    """Where the state of `mdt` is kept."""
    return state_dir / f"{mdt}.sqlite3"


def state_files(state_dir: Path) -> dict[str, Path]:
    """The state files below `state_dir`, by MDT."""
    return {path.name.removesuffix(".sqlite3"): path for path in sorted(state_dir.glob("*-MDT????.sqlite3"))}


def read_poll_status(path: Path) -> PollStatus | None:
    """The status in the state file `path`; None without a file or before the first poll. Raises `StateError`."""
    try:
        if not path.exists():
            return None
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1.0)
        try:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'poll_status'").fetchone()
            if made is None:  # a new worker is about to
                return None
            return status_in(connection)
        finally:
            connection.close()
    except ImpossibleValue as error:
        raise StateCorrupt(f"state file {path} is damaged: {error}", _REBUILT) from None
    except (OSError, sqlite3.Error) as error:
        hint = NOT_ALLOWED if _is_forbidden(path, error) else _REBUILT
        raise StateError(f"cannot read state file {path}: {error}", hint) from None


def status_in(connection: sqlite3.Connection) -> PollStatus | None:
    """The status in an open state file; None before the first poll. Raises sqlite3's errors and `ImpossibleValue`."""
    row = connection.execute(f"SELECT {', '.join(PollStatus.__struct_fields__)} FROM poll_status").fetchone()
    return None if row is None else struct(row, PollStatus)


def _is_forbidden(path: Path, error: Exception) -> bool:
    """Whether we may not read `path`, or write beside it: without its worker nobody else makes the -shm file."""
    if isinstance(error, OSError):
        return isinstance(error, PermissionError)
    forbidden = getattr(error, "sqlite_errorcode", 0) & 0xFF in _FORBIDDEN
    return forbidden and not (os.access(path, os.R_OK) and os.access(path.parent, os.W_OK))
