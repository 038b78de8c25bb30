"""Faults of the state folder and its files, of `run_dir`, and of the clock."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database, Migrations

from hsm_shipper.migrations import SET, STEPS
from tests.faults.model.machine import copy_of_database, move_over
from tests.support.waiting import eventually
from tests.torture.fault import Kind, NotPossible, Signs, any_host, send, serving_host
from tests.torture.process_faults import kill_worker
from tests.torture.site import Host, Site

_HOUR_S = 3600


def _fill_disk(site: Site) -> None:
    host = any_host(site)
    if not host.has_small_disk:
        raise NotPossible
    if site.is_held:
        _have_log_removed(site, host)
    filler = host.state_dir / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    for _ in range(1 if site.is_held else 2):
        site.last(0.8, 0.8, seconds=10)
    filler.unlink()


def _have_log_removed(site: Site, host: Host) -> None:
    """The log of a state file is as long as it ever was, and takes what fits into that: one that ends removes it."""
    pid = host.pid_of("worker", site.rng)
    send(pid, signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def _read_only_state(site: Site) -> None:
    """For whoever opens a file there from now on; its workers are killed meanwhile."""
    host = any_host(site)
    folder = str(host.state_dir)
    if _run("mount", "--bind", folder, folder) or _run("mount", "-o", "remount,bind,ro", folder):
        _run("umount", "-l", folder)
        raise NotPossible
    try:
        send(host.pid_of("worker", site.rng), signal.SIGKILL)
        site.last(2.5, 2.5)
    finally:
        _run("umount", "-l", folder)


def _run(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


def _damage_state(site: Site) -> None:
    name = site.any_mdt()
    path = site.state_of(name)
    if not path.exists():
        raise NotPossible
    if site.is_held:
        _damage_certainly(site, name, path)
        return
    with path.open("r+b") as file:
        for _ in range(site.rng.choice((1, 10))):
            file.seek(site.rng.randrange(max(1, path.stat().st_size)))
            file.write(site.rng.randbytes(site.rng.choice((16, 512))))
    kill_worker(site)


def _damage_certainly(site: Site, name: str, path: Path) -> None:
    """Its first page, of which the log has no copy left."""
    worker = site.hosts[site.home[name]].worker(name)
    pid = worker.pid if worker else None
    send(pid, signal.SIGSTOP)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with path.open("r+b") as file:
        file.write(site.rng.randbytes(4096))
    send(pid, signal.SIGKILL)


def _delete_state(site: Site) -> None:
    path = site.state_of(site.any_mdt())
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        if site.is_held or site.rng.random() < 0.8:
            path.with_name(name).unlink(missing_ok=True)
    if not site.is_held and site.rng.random() < 0.5:
        kill_worker(site)


def _yesterdays_state(site: Site) -> None:
    """Moved over the live file, whose log stays; the worker is killed or goes on."""
    name = site.any_mdt()
    path, copy = site.state_of(name), site.folder / f"{name}.yesterday"
    if not (copy.exists() or (path.exists() and copy_of_database(path, copy))):
        raise NotPossible
    for _ in range(3):
        site.advance(10)
        time.sleep(0.6)
    with contextlib.suppress(FileNotFoundError):
        move_over(copy, path)
    if not site.is_held and site.rng.random() < 0.6:
        worker = site.hosts[site.home[name]].worker(name)
        send(worker.pid if worker else None, signal.SIGKILL)
    if site.rng.random() < 0.5:
        copy.unlink()


def _older_state(site: Site) -> None:
    """A rolling upgrade: the state file is of an earlier release when this one starts."""
    host = any_host(site)
    host.stop(signal.SIGTERM)
    for path in sorted(host.state_dir.glob("*-MDT*.sqlite3")):
        with contextlib.suppress(sqlite3.Error):
            _as_of_an_earlier_release(path, site.rng.randint(3, len(STEPS) - 1))
    host.begin()


def _as_of_an_earlier_release(path: Path, steps: int) -> None:
    new = path.with_suffix(".earlier")
    new.unlink(missing_ok=True)
    earlier = Migrations(SET)
    for name, step in list(STEPS.items())[:steps]:
        earlier(name=name)(step)
    with closing(sqlite3.connect(new)) as connection:
        earlier.apply(Database(connection))
        connection.execute("ATTACH ? AS now", (str(path),))
        for table in ("actions", "missed", "refresh", "stream_position", "poll_status"):
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
        connection.commit()
        connection.execute("DETACH now")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    new.replace(path)


def _empty_run_dir(site: Site) -> None:
    """The shipper puts it back within seconds, so it is emptied again and again until that shows."""
    run_dir = any_host(site).run_dir

    def empty() -> None:
        for path in list(run_dir.iterdir()):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    empty()
    if site.is_held:
        site.last(0, 0, again=empty)


def _set_clock_ahead(site: Site) -> None:
    _move_clock(site, _HOUR_S)


def _set_clock_back(site: Site) -> None:
    _move_clock(site, -_HOUR_S)


def _move_clock(site: Site, ahead_s: int) -> None:
    host = serving_host(site)  # without an MDT nobody there looks at a clock
    if not host.has_clock:
        raise NotPossible
    host.set_clock(ahead_s)
    site.last(1.5, 1.5)
    host.set_clock(0)
    site.advance()
    time.sleep(1.5)


_READ_ANEW = "caught up with stream"
_CLOCK = Signs(line="the clock of this server, .* that of Redis", over="the clock: recovered after", check="clock")

KINDS = [
    Kind(
        "state folder full",
        _fill_disk,
        Signs(
            line="state file .* full",
            over="the state file: recovered after",
            status="last poll failed|no poll for a long time|cannot .* state file",
            check="make room",
            top="last poll failed",
            alerts=("HsmPollFails",),
        ),
    ),
    Kind(
        "state folder read-only, its worker killed",
        _read_only_state,
        Signs(
            line="[Rr]ead-only file system|readonly",
            over="success: mdt-.* entered RUNNING",
            status="worker is",
            check="cannot write in",
            alerts=("HsmShipperSilent",),
        ),
    ),
    Kind("state file damaged", _damage_state, Signs(line="set aside as", over=_READ_ANEW)),
    Kind(
        "state file deleted", _delete_state, Signs(line="was removed or replaced|from its beginning", over=_READ_ANEW)
    ),
    Kind(
        "yesterday's state file moved over the live one",
        _yesterdays_state,
        Signs(line="was removed or replaced|set aside"),  # where nothing has changed since, that is all
    ),
    Kind("a state file of an earlier release", _older_state, weight=1),
    Kind(
        "run_dir emptied",
        _empty_run_dir,
        Signs(line="had lost .*: put back|nobody listens", over="had lost .*: put back", status="nobody listens"),
        weight=2,
        flaps=True,
    ),
    Kind("the clock an hour ahead", _set_clock_ahead, _CLOCK._replace(alerts=("HsmClockAhead",))),
    Kind("the clock an hour behind", _set_clock_back, _CLOCK._replace(alerts=("HsmPollOld",))),
]
