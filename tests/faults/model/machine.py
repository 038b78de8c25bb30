"""Processes that can be killed between any two of their commands and statements, and the clock that they all see.

Faults enter where a process meets the world: its connection to Redis, its connection to SQLite, the actions file that
it is given, and the callback that it asks whether to go on. A kill leaves files as kill -9 does: what was committed is
there, what was not is not, the log of SQLite is where it was.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

from hsm_shipper.migrations import migrate
from tests.faults.world import Killed

_BUSY_TIMEOUT_S = 0.02
"""All processes share one thread: whoever waits for another's lock waits in vain."""


class Process:
    """One process: what it has open, and whether it is dead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.databases: set[Database] = set()
        self.left: dict[Path, dict[str, bytes]] = {}
        """The files of each database as the process left them."""


class Database(sqlite3.Connection):
    """A connection to SQLite of one process."""

    machine: Machine
    process: Process | None
    path: Path

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """Execute, unless the process ends before or behind it, or the disk fails."""
        self.machine.gate("statement", self)
        cursor = super().execute(sql, *args)
        self.machine.gate("statement done", self)
        return cursor

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """The same."""
        self.machine.gate("statement", self)
        return super().executemany(sql, *args)

    def close(self) -> None:
        """Close it: the last one of a file takes its log away."""
        self.machine.open.discard(self)
        if self.process is not None:
            self.process.databases.discard(self)
        super().close()

    def fail(self, code: int) -> None:
        """Let the disk be full or broken: SQLite rolls back and says so."""
        if self.in_transaction:
            super().execute("ROLLBACK")
        error = sqlite3.OperationalError(
            "database or disk is full" if code == sqlite3.SQLITE_FULL else "disk I/O error"
        )
        error.sqlite_errorcode = code
        raise error


class Fault:
    """What is to happen at the n-th time that a process comes by `point`."""

    def __init__(self, point: str, after: int, act: Callable[[Any], None]) -> None:
        self.point = point
        self.after = after
        self.act = act


class Machine:
    """Every process of a simulation, one at a time, and the fault that waits for one of them."""

    def __init__(self) -> None:
        self.now_s = 1_795_000_000.0
        """What `time.time()` tells: somebody may set that clock."""
        self.passed_s = 0.0
        """What `time.monotonic()` tells."""
        self.current: Process | None = None
        self.open: set[Database] = set()
        self.fault: Fault | None = None

    def let_pass(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds
        self.passed_s += seconds

    def set_clock(self, seconds: float) -> None:
        """Put the clock of all hosts forward or back."""
        self.now_s += seconds

    @contextlib.contextmanager
    def installed(self, *, migrates: bool = True) -> Iterator[None]:
        """Within this the clock is ours, SQLite's connections are, and nothing is logged.

        Without `migrates` new state files are copies of one: twenty statements less, between which nothing happens.
        """
        connect = sqlite3.connect

        def ours(database: Any, *args: Any, **kwargs: Any) -> Database:
            kwargs["timeout"] = _BUSY_TIMEOUT_S
            connection = connect(database, *args, factory=Database, **kwargs)
            assert isinstance(connection, Database)
            text = str(database)
            connection.machine, connection.process = self, self.current
            connection.path = Path(unquote(urlsplit(text).path) if text.startswith("file:") else text)
            self.open.add(connection)
            if self.current is not None:
                self.current.databases.add(connection)
            return connection

        clocks = mock.patch.multiple("time", time=lambda: self.now_s, monotonic=lambda: self.passed_s)
        made = contextlib.nullcontext() if migrates else mock.patch("hsm_shipper.state.state_file.migrate", _copy_new)
        with clocks, mock.patch("sqlite3.connect", ours), made:
            logging.disable(logging.CRITICAL)
            try:
                yield
            finally:
                logging.disable(logging.NOTSET)

    @contextlib.contextmanager
    def running(self, process: Process) -> Iterator[None]:
        """Within this what happens is done by `process`. Raises nothing if it is killed: it is buried then."""
        before, self.current = self.current, process
        try:
            yield
        except Killed:
            if not process.is_dead:
                raise
            self.bury(process)
        finally:
            self.current = before

    def gate(self, point: str, at: Any = None) -> None:
        """A process comes by `point`."""
        if self.current is None:
            return
        if self.current.is_dead:
            raise Killed
        fault = self.fault
        if fault is not None and fault.point == point:
            if fault.after > 0:
                fault.after -= 1
                return
            self.fault = None
            fault.act(at)

    def kill(self, process: Process | None = None, cut: float = 1.0) -> None:
        """Kill -9, of the current process or of one that waits: it does nothing any more. `cut` as in `bury`."""
        process = process or self.current
        assert process is not None
        process.is_dead = True
        for path in {database.path for database in process.databases}:
            process.left[path] = _files_of(path)
        if process is self.current:
            raise Killed
        self.bury(process, cut)

    def bury(self, process: Process, cut: float = 1.0) -> None:
        """Close what a dead process had open, and put its files back as it left them.

        `cut` is the share of SQLite's log that is on the disk: what was not synced is lost with the power.
        """
        for database in list(process.databases):
            database.close()
        for path, left in process.left.items():
            if not any(database.path == path for database in self.open):
                _put_back(path, left, cut)
        process.left = {}


_new = sqlite3.connect(":memory:")
migrate(_new)


def _copy_new(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]:
        migrate(connection)  # somebody has left a part of one
    else:
        _new.backup(connection)


def _files_of(path: Path) -> dict[str, bytes]:
    found = {}
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            found[suffix] = Path(f"{path}{suffix}").read_bytes()
    return found


def _put_back(path: Path, left: dict[str, bytes], cut: float) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    for suffix, content in left.items():
        Path(f"{path}{suffix}").write_bytes(content[: round(cut * len(content))] if suffix else content)


def copy_of_database(path: Path, copy: Path) -> bool:
    """Yesterday's copy of a database, taken as an administrator does; False where there is none to be had."""
    copy.unlink(missing_ok=True)
    try:
        source = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    except sqlite3.Error:
        return False
    target = sqlite3.connect(copy)
    try:
        source.backup(target)
    except sqlite3.Error:
        return False
    finally:
        source.close()
        target.close()
    return True


def move_over(copy: Path, path: Path) -> None:
    """Put a copy in the place of a database, as `cp` and `mv` do: its log stays."""
    moved = path.with_name(path.name + ".moved")
    shutil.copy(copy, moved)
    moved.replace(path)
