"""Faults done to real processes, each by its name. What is over leaves nothing that a hand would have to mend."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database, Migrations

from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.migrations import SET, STEPS
from tests.faults.model.machine import copy_of_database, move_over
from tests.support.waiting import eventually
from tests.torture.site import Host, Site


class NotPossible(Exception):
    """The machine does not allow this fault (no root, no compiler), or there is nothing to do it to."""


class Kind(NamedTuple):
    """One kind of fault."""

    name: str
    do: Callable[[Site], None]
    forgives: bool = False
    """Whether Redis loses by it what it acknowledged, or somebody else writes: what follows of that is healing."""
    says: str = ""
    """What the log says of it, as a regular expression; empty where nothing is to be said or seen."""
    shows: str = ""
    """The metric and the alert that show it where it lasts."""
    may_crash: bool = False
    """Whether its process may end with a traceback: there is nothing left to do better with."""
    weight: int = 3


def _host(site: Site) -> Host:
    return site.hosts[site.rng.choice(sorted(site.hosts))]


def _send(pid: int | None, number: signal.Signals) -> None:
    if pid is None:
        raise NotPossible
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill(kind: str) -> Callable[[Site], None]:
    def do(site: Site) -> None:
        time.sleep(site.rng.uniform(0, 0.5))  # at any moment of a poll
        _send(_host(site).pid_of(kind, site.rng), signal.SIGKILL)

    return do


def _kill_supervisord(site: Site) -> None:
    """And start another at once, over orphans that live on until the kernel's death signal reaches them."""
    host = _host(site)
    host.stop(signal.SIGKILL)
    _begin_over_orphans(host)


def _begin_over_orphans(host: Host) -> None:
    for _ in range(50):  # one that finds the lock held says so and ends; systemd would start it again
        try:
            host.begin()
            return
        except AssertionError:
            time.sleep(0.2)
    raise AssertionError(f"the shipper does not start over its orphans: {host.log.read_text()[-2000:]}")


def _kill_everything(site: Site) -> None:
    host = _host(site)
    for pid in host.processes():
        _send(pid, signal.SIGKILL)
    host.wait_end()
    eventually(lambda: not host.processes())
    host.begin()


def _restart(site: Site) -> None:
    host = _host(site)
    host.stop(signal.SIGTERM)
    host.begin()


def _pause(kind: str) -> Callable[[Site], None]:
    def do(site: Site) -> None:
        pid = _host(site).pid_of(kind, site.rng)
        _send(pid, signal.SIGSTOP)
        site.advance()
        time.sleep(site.rng.uniform(0.3, 2.5))
        _send(pid, signal.SIGCONT)

    return do


def _kill_redis(site: Site) -> None:
    site.broker.kill()
    site.advance()
    time.sleep(site.rng.uniform(0, 1.5))
    site.broker.start()


def _pause_redis(site: Site) -> None:
    site.broker.pause()
    site.advance()
    time.sleep(site.rng.uniform(0.5, 3))
    site.broker.resume()


def _delay(site: Site) -> None:
    site.proxy.delay_s = site.rng.uniform(0.02, 0.4)
    site.advance()
    time.sleep(2)
    site.proxy.delay_s = 0


def _cut(site: Site) -> None:
    for _ in range(site.rng.randint(1, 6)):
        site.proxy.cut()
        site.advance(1)
        time.sleep(site.rng.uniform(0, 0.6))


def _swallow(site: Site) -> None:
    site.proxy.swallows = site.rng.choice((0.1, 0.3, 0.6))
    for _ in range(3):
        site.advance()
        time.sleep(0.7)
    site.proxy.swallows = 0


def _fill_redis(site: Site) -> None:
    site.client.config_set("maxmemory", "1mb")
    site.advance()
    time.sleep(site.rng.uniform(0.8, 2.5))
    site.client.config_set("maxmemory", "0")


def _demote_redis(site: Site) -> None:
    """A replica of nobody for a while: a failover without one to take over."""
    site.client.replicaof("127.0.0.1", "1")
    site.advance()
    time.sleep(site.rng.uniform(0.8, 2))
    site.broker.promote()


def _flush_redis(site: Site) -> None:
    site.client.flushall()


def _roll_back_redis(site: Site) -> None:
    """Redis comes back with what it held some polls ago."""
    older = site.folder / "older"
    site.broker.stop()
    shutil.rmtree(older, ignore_errors=True)
    shutil.copytree(site.broker.folder, older)
    site.broker.start()
    for _ in range(2):
        site.advance()
        time.sleep(0.7)
    site.broker.kill()
    shutil.rmtree(site.broker.folder)
    shutil.copytree(older, site.broker.folder)
    site.broker.start()


def _trim_by_hand(site: Site) -> None:
    site.client.xtrim(f"hsm:actions:{site.any_mdt()}", maxlen=site.rng.choice((0, 1, 50)), approximate=False)


def _delete_by_hand(site: Site) -> None:
    key = f"hsm:actions:{site.any_mdt()}"
    ids = [entry_id for entry_id, _ in site.client.xrange(key) or []]
    if not ids:
        raise NotPossible
    site.client.xdel(key, *site.rng.sample(sorted(ids, key=pack_id), min(len(ids), site.rng.choice((1, 5)))))  # type: ignore[arg-type]


def _write_by_hand(site: Site) -> None:
    for _ in range(3):
        site.client.xadd(f"hsm:actions:{site.any_mdt()}", {"data": site.rng.choice(("{}", "x", "[]"))})


def _fill_disk(site: Site) -> None:
    host = _host(site)
    if not host.has_small_disk:
        raise NotPossible
    filler = host.state_dir / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    for _ in range(2):
        site.advance(10)
        time.sleep(0.8)
    filler.unlink()


def _read_only_state(site: Site) -> None:
    """For whoever opens a file there from now on; a worker is killed meanwhile."""
    host = _host(site)
    folder = str(host.state_dir)
    if _run("mount", "--bind", folder, folder) or _run("mount", "-o", "remount,bind,ro", folder):
        _run("umount", "-l", folder)
        raise NotPossible
    try:
        _send(host.pid_of("worker", site.rng), signal.SIGKILL)
        site.advance()
        time.sleep(2.5)
    finally:
        _run("umount", "-l", folder)


def _run(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


def _damage_state(site: Site) -> None:
    path = site.state_of(site.any_mdt())
    if not path.exists():
        raise NotPossible
    with path.open("r+b") as file:
        for _ in range(site.rng.choice((1, 10))):
            file.seek(site.rng.randrange(max(1, path.stat().st_size)))
            file.write(site.rng.randbytes(site.rng.choice((16, 512))))
    _kill("worker")(site)


def _delete_state(site: Site) -> None:
    path = site.state_of(site.any_mdt())
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        if site.rng.random() < 0.8:
            path.with_name(name).unlink(missing_ok=True)
    if site.rng.random() < 0.5:
        _kill("worker")(site)


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
    if site.rng.random() < 0.6:
        worker = site.hosts[site.home[name]].worker(name)
        _send(worker.pid if worker else None, signal.SIGKILL)
    if site.rng.random() < 0.5:
        copy.unlink()


def _older_state(site: Site) -> None:
    """A rolling upgrade: the state file is of an earlier release when this one starts."""
    host = _host(site)
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
    for path in list(_host(site).run_dir.iterdir()):
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _move_clock(site: Site) -> None:
    host = _host(site)
    if not host.has_clock:
        raise NotPossible
    for ahead_s in (site.rng.choice((-3600, 3600)), 0):
        host.set_clock(ahead_s)
        site.advance()
        time.sleep(1.5)


def _limit(site: Site, what: int, least: int) -> None:
    pid = _host(site).pid_of("worker", site.rng)
    if pid is None:
        raise NotPossible
    try:
        before = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (least, before[1]))
    except (ProcessLookupError, PermissionError):
        raise NotPossible from None
    site.advance(20)
    time.sleep(1.5)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, what, before)


def _few_descriptors(site: Site) -> None:
    _limit(site, resource.RLIMIT_NOFILE, 4)


def _little_memory(site: Site) -> None:
    _limit(site, resource.RLIMIT_AS, 16 * 1024 * 1024)


def _two_hosts(site: Site) -> None:
    """The folder of the MDT is on both for a while."""
    name = site.any_mdt()
    here = site.home[name]
    there = next(host for host in site.hosts if host != here)
    source = site.hosts[here].mds.actions_path(name).parent.parent
    target = site.hosts[there].mds.actions_path(name).parent.parent
    if not source.exists() or target.exists():
        raise NotPossible
    target.symlink_to(source)
    for _ in range(5):
        site.advance()
        time.sleep(0.6)
    target.unlink()


def _fail_over(site: Site) -> None:
    name = site.any_mdt()
    mdt = site.workloads[name].mdt
    there = next(host for host in site.hosts if host != site.home[name])
    mdt.unmount()
    time.sleep(site.rng.uniform(0, 1))
    site.mount(name, there)


def _mount_again(site: Site) -> None:
    name = site.any_mdt()
    mdt = site.workloads[name].mdt
    for _ in range(3):
        mdt.unmount()
        time.sleep(site.rng.uniform(0, 0.7))
        site.mount(name, site.home[name])
        time.sleep(site.rng.uniform(0, 0.7))


_POLL_FAILS = "`hsm_worker_last_poll_failed`, `HsmPollFails`"
_REDIS_DOWN = "`hsm_redis_up`, `HsmRedisDown`"

KINDS = [
    Kind("kill -9 of a worker", _kill("worker"), says="exited: mdt-.*SIGKILL", weight=12),
    Kind("kill -9 of discovery", _kill("discovery"), says="exited: discovery.*SIGKILL", weight=6),
    Kind("kill -9 of maintenance", _kill("maintenance"), says="exited: maintenance.*SIGKILL", weight=6),
    Kind("kill -9 of supervisord, started over live orphans", _kill_supervisord, weight=2),
    Kind("kill -9 of everything on a host", _kill_everything, weight=2),
    Kind("stop and start in good order", _restart, weight=2),
    Kind("SIGSTOP of a worker", _pause("worker")),
    Kind("SIGSTOP of discovery", _pause("discovery"), weight=1),
    Kind("SIGSTOP of maintenance", _pause("maintenance"), weight=1),
    Kind("SIGSTOP of supervisord", _pause("supervisord"), weight=1),
    Kind("kill -9 of Redis", _kill_redis, says="cannot .* stream", shows=_REDIS_DOWN, weight=4),
    Kind("SIGSTOP of Redis", _pause_redis),
    Kind("a proxy that delays", _delay),
    Kind("a proxy that cuts", _cut, says="cannot .* stream|caught up", shows=_POLL_FAILS, weight=4),
    Kind("a proxy that swallows replies", _swallow, says="cannot .* stream|caught up", shows=_POLL_FAILS, weight=4),
    Kind("maxmemory reached", _fill_redis, says="maxmemory", shows=_POLL_FAILS),
    Kind("Redis turned into a replica and back", _demote_redis, says="read only replica", shows=_POLL_FAILS),
    Kind("Redis flushed", _flush_redis, forgives=True, says="ends at"),
    Kind("Redis rolled back", _roll_back_redis, forgives=True, says="cannot .* stream|ends at"),
    Kind("a foreign XTRIM", _trim_by_hand, forgives=True),
    Kind("a foreign XDEL", _delete_by_hand, forgives=True),
    Kind("foreign entries", _write_by_hand, forgives=True, says="malformed entry|ends at"),
    Kind("state folder full", _fill_disk, says="state file .* full", shows=_POLL_FAILS),
    Kind("state folder read-only, its worker killed", _read_only_state, says="[Rr]ead-only file system|readonly"),
    Kind("state file damaged", _damage_state, says="set aside as"),
    Kind("state file deleted", _delete_state, says="was removed or replaced|from its beginning"),
    Kind("yesterday's state file moved over the live one", _yesterdays_state, says="was removed or replaced|set aside"),
    Kind("a state file of an earlier release", _older_state, weight=1),
    Kind("run_dir emptied", _empty_run_dir, says="had lost .*: put back|nobody listens", weight=2),
    Kind("the clock an hour off and back", _move_clock),
    Kind("no descriptor left", _few_descriptors, says="Too many open files|unable to open"),
    Kind("no memory left", _little_memory, says="exited: mdt-|MemoryError|memory", may_crash=True),
    Kind("two hosts with one MDT", _two_hosts, says="other hosts wrote", weight=2),
    Kind("a failover", _fail_over, says="caught up with stream"),
    Kind("an MDT that is mounted again and again", _mount_again),
]
