"""What past maintenance runs did, by MDT: `<state_dir>/maintenance.sqlite3`, for `status` and for people.

A file of maintenance's own: every commit by another process to a state file makes that MDT's worker load it again.
It is worth nothing but to look at: one that is broken is set aside, and a run that cannot be recorded is still a run.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from hsm_shipper.errors import AlreadyRunning, StateCorrupt, StateError, StateUnwritable
from hsm_shipper.state.locks import FileLock
from hsm_shipper.state.poll_status import NOT_ALLOWED
from hsm_shipper.state.rows import translated
from hsm_shipper.state.values import Count, Time, struct

KEPT_RUNS = 100  # of each MDT
_BUSY_TIMEOUT_S = 5.0
_LOCK_RETRY_S = 0.05


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One maintenance run. Times are seconds since the epoch; counts are None if it failed, `error` if it did not.

    `started_at` and `duration_s` include the checks of the state file. For the counts see `cycle.CycleResult`.
    """

    mdt: str
    host: str
    started_at: Time
    duration_s: Time
    entries: Count | None = None
    live: Count | None = None
    orphans: Count | None = None
    missing: Count | None = None
    differing: Count | None = None
    malformed: Count | None = None
    trimmed: Count | None = None
    refreshed: Count | None = None
    length: Count | None = None
    error: str | None = None

    @property
    def healed(self) -> int | None:
        """Actions that were corrected in the state file."""
        counts = (self.orphans, self.missing, self.differing)
        return None if None in counts else sum(count or 0 for count in counts)


_COLUMNS = ", ".join(Run.__struct_fields__)


def runs_file(state_dir: Path) -> Path:
    """Where runs are recorded."""
    return state_dir / "maintenance.sqlite3"


def record(state_dir: Path, run: Run) -> None:
    """Keep `run`, and of each MDT the last `KEPT_RUNS`. Raises `StateError`; `AlreadyRunning` if others keep it locked.

    Making the file and migrating it must not happen twice at a time, and writers are few: one lock for all of it.
    """
    path = runs_file(state_dir)
    with _locked(path):
        try:
            _insert(path, run)
        except StateCorrupt:
            _set_aside(path)
            _insert(path, run)


def last_runs(state_dir: Path, *, completed: bool = False) -> dict[str, Run]:
    """The last run of each MDT, or its last that did not fail; none without a file. Raises `StateError`."""
    path = runs_file(state_dir)
    condition = "WHERE error IS NULL" if completed else ""
    query = f"SELECT {_COLUMNS} FROM runs WHERE id IN (SELECT max(id) FROM runs {condition} GROUP BY mdt)"
    try:
        if not path.exists():
            return {}
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}", NOT_ALLOWED) from None
    address = f"file:{quote(str(path))}?mode=ro"
    with translated(path, "read"), closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
        rows = connection.execute(query).fetchall() if made else []
        return {run.mdt: run for run in (struct(row, Run) for row in rows)}


def _insert(path: Path, run: Run) -> None:
    from sqlite_utils import Database  # late: 0.16 s that `status`, which reads, need not pay

    from hsm_shipper.migrations.maintenance import migrations

    marks = ", ".join("?" * len(Run.__struct_fields__))
    with translated(path, "open"):
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    with closing(connection):
        with translated(path, "migrate"):
            migrations.apply(Database(connection))
        with translated(path, "read"):
            for row in connection.execute(f"SELECT {_COLUMNS} FROM runs"):
                struct(row, Run)  # some hundred rows: what is damaged would spoil every look at them
        with translated(path, "write"):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"INSERT INTO runs ({_COLUMNS}) VALUES ({marks})", msgspec.structs.astuple(run))
            connection.execute(
                "DELETE FROM runs WHERE mdt = ? AND id NOT IN "
                "(SELECT id FROM runs WHERE mdt = ? ORDER BY id DESC LIMIT ?)",
                (run.mdt, run.mdt, KEPT_RUNS),
            )
            connection.execute("COMMIT")


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(f"{path.name}.broken"))
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    except OSError as error:
        raise StateUnwritable(f"cannot set the broken {path} aside: {error.strerror}", "remove it by hand") from None


def _locked(path: Path) -> FileLock:
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            return FileLock(path.with_name(f"{path.name}.lock"), "recording a maintenance run")
        except AlreadyRunning:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOCK_RETRY_S)
