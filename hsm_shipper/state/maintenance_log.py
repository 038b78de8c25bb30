"""What past maintenance runs did, by MDT: `<state_dir>/maintenance.sqlite3`, for `status` and for people.

A file of maintenance's own: every commit by another process to a state file makes that MDT's worker load it again.
It is worth nothing but to look at: one that is broken is set aside, and a run that cannot be recorded is still a run.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from hsm_shipper.contract.poll import Count, Span, Time
from hsm_shipper.errors import AlreadyRunning, StateCorrupt
from hsm_shipper.state.damage import set_aside
from hsm_shipper.state.database import BUSY_TIMEOUT_S, immediate, opened, read, translated
from hsm_shipper.state.locks import FileLock
from hsm_shipper.state.values import struct

KEPT_RUNS = 100  # of each MDT
_LOCK_RETRY_S = 0.05


class RecordedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One maintenance run. Times are seconds since the epoch; counts are None if it failed, `error` if it did not.

    `started_at` and `duration_s` include the checks of the state file. For the counts see `cycle.CycleResult`.
    """

    mdt: str
    host: str
    started_at: Time
    duration_s: Span
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


_COLUMNS = ", ".join(RecordedRun.__struct_fields__)


def runs_file(state_dir: Path) -> Path:
    """Where runs are recorded."""
    return state_dir / "maintenance.sqlite3"


def record(state_dir: Path, run: RecordedRun) -> None:
    """Keep `run`, and of each MDT the last `KEPT_RUNS`. Raises `StateError`; `AlreadyRunning` if others keep it locked.

    Making the file and migrating it must not happen twice at a time, and writers are few: one lock for all of it.
    """
    # Late, 0.16 s that `status`, which reads, need not pay; and before the lock, for which others wait.
    from sqlite_utils import Database

    from hsm_shipper.migrations.maintenance import migrations

    def migrate(connection: sqlite3.Connection) -> None:
        migrations.apply(Database(connection))

    path = runs_file(state_dir)
    with _locked(path):
        try:
            _insert(path, run, migrate)
        except StateCorrupt as damage:
            set_aside(path, damage)
            _insert(path, run, migrate)


def last_runs(state_dir: Path, *, completed: bool = False) -> dict[str, RecordedRun]:
    """The last run of each MDT, or its last that did not fail; none without a file. Raises `StateError`."""
    condition = "WHERE error IS NULL" if completed else ""
    query = f"SELECT {_COLUMNS} FROM runs WHERE id IN (SELECT max(id) FROM runs {condition} GROUP BY mdt)"
    runs = read(
        runs_file(state_dir), "runs", lambda connection: [struct(row, RecordedRun) for row in connection.execute(query)]
    )
    return {run.mdt: run for run in runs or ()}


def _insert(path: Path, run: RecordedRun, migrate: Callable[[sqlite3.Connection], None]) -> None:
    marks = ", ".join("?" * len(RecordedRun.__struct_fields__))
    with opened(path, "rwc", "open", BUSY_TIMEOUT_S) as connection:
        with translated(path, "migrate"):
            migrate(connection)
        with translated(path, "read"):
            for row in connection.execute(f"SELECT {_COLUMNS} FROM runs"):
                struct(row, RecordedRun)  # some hundred rows: what is damaged would spoil every look at them
        with translated(path, "write"), immediate(connection):
            connection.execute(f"INSERT INTO runs ({_COLUMNS}) VALUES ({marks})", msgspec.structs.astuple(run))
            connection.execute(
                "DELETE FROM runs WHERE mdt = ? AND id NOT IN "
                "(SELECT id FROM runs WHERE mdt = ? ORDER BY id DESC LIMIT ?)",
                (run.mdt, run.mdt, KEPT_RUNS),
            )


def _locked(path: Path) -> FileLock:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return FileLock(path.with_name(f"{path.name}.lock"), "recording a maintenance run")
        except AlreadyRunning:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOCK_RETRY_S)
