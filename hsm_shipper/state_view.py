"""A read-only view of an MDT's state file, for `status` and the tools; never waits for the worker that writes it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

import msgspec

from hsm_shipper.errors import StateError

NOT_ALLOWED = "run this as the user that runs the shipper"
_FORBIDDEN = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}


class PollStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the last poll of an MDT went. Times are seconds since the epoch; counters run since the file was made."""

    mdt: str
    host: str
    pid: int
    polls: int
    last_poll_at: float
    last_poll_duration_s: float
    lines: int
    live: int
    backlog: int
    events_new: int
    events_update: int
    events_purged: int
    states_missed: int
    lines_not_understood: int
    last_error: str | None
    last_error_at: float | None

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
    columns = PollStatus.__struct_fields__
    try:
        if not path.exists():
            return None
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1.0)
        try:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'poll_status'").fetchone()
            if made is None:  # a new worker is about to
                return None
            row = connection.execute(f"SELECT {', '.join(columns)} FROM poll_status").fetchone()
        finally:
            connection.close()
        return None if row is None else msgspec.convert(dict(zip(columns, row, strict=True)), PollStatus)
    except (OSError, sqlite3.Error, msgspec.ValidationError) as error:
        hint = NOT_ALLOWED if _is_forbidden(path, error) else "the worker rebuilds a broken one"
        raise StateError(f"cannot read state file {path}: {error}", hint) from None


def _is_forbidden(path: Path, error: Exception) -> bool:
    """Whether we may not read `path`, or write beside it: without its worker nobody else makes the -shm file."""
    if isinstance(error, OSError):
        return isinstance(error, PermissionError)
    forbidden = getattr(error, "sqlite_errorcode", 0) & 0xFF in _FORBIDDEN
    return forbidden and not (os.access(path, os.R_OK) and os.access(path.parent, os.W_OK))
