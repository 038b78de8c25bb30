"""Maintenance that others are in the way of, and runs that lose their lock, their MDT, their process or their Redis."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from hsm_shipper.state.forget import maintenance_lock_path
from hsm_shipper.state.locks import FileLock
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.stream.maintenance_lock import RENEW_AFTER_S
from tests.acceptance.conftest import MakeServer
from tests.conftest import PrivateServer
from tests.simulator import SimulatedMdt, populate
from tests.support.maintained import (
    LOCK,
    MAINTAINED,
    damage,
    held_in_a_run,
    maintenance_pid,
    run_now,
    runs_of,
    settled,
    start_maintain,
    start_with_history,
)
from tests.support.site import MDT, STREAM, SimulatedServer, verdict
from tests.support.waiting import DEADLINE_S, eventually


def test_a_second_run_waits_or_is_refused(make_server: MakeServer, server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """One on this server waits for the first one to end; one on another server is told who works."""
    start_with_history(server, mdt)
    other = make_server("mds2")
    other.mds.add_folders(MDT)
    other.mds.actions_path(MDT).write_bytes(mdt.listing())
    with held_in_a_run(server) as pid:
        before = len(runs_of(server))
        refused = other.run("--run-once", "--maintenance-now")
        assert refused.returncode == 1
        assert f"is already running (held by mds1, pid {pid}, lock {LOCK})" in refused.stderr
        assert runs_of(other) == []
        waiting = start_maintain(server)
        assert waiting.stderr is not None
        assert f"waiting at most 65 s: maintenance of {MDT} is already running (pid {pid}" in waiting.stderr.readline()
    stdout, _ = waiting.communicate(timeout=DEADLINE_S)
    assert waiting.returncode == 0 and stdout.startswith(f"{MDT}: read ")
    assert len(runs_of(server)) == before + 2


def test_waiting_for_another_run_can_be_interrupted(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.start_polled(mdt)
    with FileLock(maintenance_lock_path(server.state_dir, MDT), "this test"):
        waiting = start_maintain(server)
        assert waiting.stderr is not None
        assert "waiting" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        stdout, stderr = waiting.communicate(timeout=DEADLINE_S)
    assert (waiting.returncode, stdout) == (130, "")
    assert "interrupted" in stderr and "Traceback" not in stderr


def test_maintain_says_what_it_cannot_look_into(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.start_polled(mdt)
    hidden = server.mds.actions_path("elm-MDT0001").parents[1]
    hidden.symlink_to(hidden)  # ELOOP, for root as well
    said = f"cannot look at {hidden}/hsm/actions: Too many levels of symbolic links"
    done = server.run("maintain")
    assert (done.returncode, done.stdout.partition(":")[0]) == (1, MDT)
    assert said in done.stderr
    assert server.run("maintain", MDT).returncode == 0
    done = server.run("maintain", "elm-MDT0001")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"elm-MDT0001: whether it is on this server cannot be seen: {said}" in done.stderr
    mdt.unmount()
    done = server.run("maintain")
    assert done.returncode == 1 and "no MDT on this server" not in done.stderr


def test_another_servers_run_is_waited_for(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """The maintenance program says who holds the lock, and comes back when it has expired."""
    server.start_polled(mdt)
    maintenance_pid(server)
    refused = "already running (held by mds9, pid 4711"

    def is_refused() -> bool:
        """A program that the machine was too busy for finds the lock expired, and runs."""
        server.redis.set(LOCK, "mds9:4711:0", px=2000, nx=True)
        run_now(server)
        eventually(lambda: refused in server.log.read_text() or not server.redis.exists(LOCK))
        return refused in server.log.read_text()

    eventually(is_refused)
    assert re.search(r": skipped, tried again in [12] s", server.log.read_text())
    before = len(runs_of(server))
    eventually(lambda: len(runs_of(server)) > before)


@pytest.mark.parametrize("taken", [True, False])
def test_a_lock_that_is_lost_ends_the_run_where_it_stands(
    server: SimulatedServer, mdt: SimulatedMdt, taken: bool
) -> None:
    start_with_history(server, mdt)
    length = _lose_lock_in_a_run(server, mdt, taken=taken)
    who = "held by mds9, pid 4711" if taken else "nobody holds it"
    assert f"({who}): the run ends where it stands" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    failed = eventually(lambda: [run for run in runs_of(server) if run.error])
    assert "lost the lock" in str(failed[0].error)
    assert "last maintenance failed: lost the lock" in server.run("status").stdout
    assert "the last maintenance failed: lost the lock" in server.run("check").stdout
    # Nothing was healed, nothing trimmed, and the lock of the other is as it was.
    assert server.redis.xlen(STREAM) == length and not settled(server, mdt)
    assert server.redis.get(LOCK) == (b"mds9:4711:0" if taken else None)
    server.redis.delete(LOCK)
    assert server.run("maintain").returncode == 0
    eventually(lambda: settled(server, mdt))
    assert verdict(server.redis, mdt).complaints == []


def _lose_lock_in_a_run(server: SimulatedServer, mdt: SimulatedMdt, *, taken: bool) -> int:
    """Take the lock away while a run goes on, before its last look at it; returns how long the stream is then."""
    while True:
        length = _lose_lock(server, mdt, taken=taken)
        if "lost the lock" in server.log.read_text():
            return length
        server.redis.delete(LOCK)  # a busy machine stopped the run when it had done everything
        eventually(lambda: settled(server, mdt))


def _lose_lock(server: SimulatedServer, mdt: SimulatedMdt, *, taken: bool) -> int:
    damage(server, mdt, lambda: server.wait_polled(mdt))
    too_late = _lost_at_the_end(server)
    with held_in_a_run(server):
        length = int(server.redis.xlen(STREAM))
        if taken:
            server.redis.set(LOCK, "mds9:4711:0")
        else:
            server.redis.delete(LOCK)
        lost_at = time.monotonic()
        eventually(lambda: time.monotonic() > lost_at + RENEW_AFTER_S)
    eventually(lambda: "lost the lock" in server.log.read_text() or _lost_at_the_end(server) > too_late)
    return length


def _lost_at_the_end(server: SimulatedServer) -> int:
    return server.log.read_text().count("was lost at the end of the run")


def test_a_run_whose_mdt_leaves_ends_and_lets_go_of_its_state(make_server: MakeServer) -> None:
    mds1, mds2, mdt = make_server("mds1"), make_server("mds2"), SimulatedMdt(MDT)
    populate(mdt, 100)
    mdt.mount(mds1.mds)
    start_with_history(mds1, mdt)
    mds2.start()
    damage(mds1, mdt, lambda: mds1.wait_polled(mdt))
    with held_in_a_run(mds1):
        mdt.unmount()
        mds1.wait_running()
        finished = mdt.records()[5]
        mdt.set_status(finished, "SUCCEED")
        mdt.mount(mds2.mds)
        mds2.wait_running(MDT)
        mds2.wait_polled(mdt)
        assert state_file(mds1.state_dir, MDT).exists()
    eventually(lambda: f"{MDT}: maintenance ends here: the MDT has left this server" in mds1.log.read_text())
    eventually(lambda: not state_file(mds1.state_dir, MDT).exists())
    eventually(lambda: f"{MDT} is not maintained here any more" in mds1.log.read_text())
    # The fold of the new host held the orphan and lacked the missing one: its first poll has healed them.
    assert settled(mds1, mdt) and verdict(mds1.redis, mdt).complaints == []
    assert all(run.error is None for run in runs_of(mds1))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_ended_half_way_is_made_good(
    server: SimulatedServer, mdt: SimulatedMdt, how: signal.Signals
) -> None:
    start_with_history(server, mdt)
    damage(server, mdt, lambda: server.wait_polled(mdt))
    with held_in_a_run(server) as pid:
        os.kill(pid, how)
    eventually(lambda: server.log.read_text().count(MAINTAINED) == 2)  # by the next process
    if how is signal.SIGKILL:
        assert server.redis.pttl(LOCK) > 0  # nobody could let go of it: it expires
        server.redis.pexpire(LOCK, 1)
    else:
        assert "maintenance ends here: this process is to stop" in server.log.read_text()
        assert not server.redis.exists(LOCK)
    assert server.run("maintain").returncode == 0
    eventually(lambda: settled(server, mdt))
    assert verdict(server.redis, mdt).complaints == []
    assert "Traceback" not in server.log.read_text()


def is_stopped_between_polls(pid: int, state: Path) -> bool:
    """Stop a worker, unless it is just writing its state file."""
    os.kill(pid, signal.SIGSTOP)
    with closing(sqlite3.connect(state, timeout=0)) as database, contextlib.suppress(sqlite3.OperationalError):
        database.execute("BEGIN IMMEDIATE")
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def test_a_damaged_state_file_is_set_aside_and_made_anew(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    server.configure(poll_interval=0.5)  # longer than a poll: it can be stopped between two
    populate(mdt, 2000)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    state = state_file(server.state_dir, MDT)
    worker = server.worker(MDT)
    assert worker is not None
    eventually(lambda: is_stopped_between_polls(worker.pid, state))
    try:
        with closing(sqlite3.connect(state)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with state.open("r+b") as file:
            file.seek(8 * 4096)
            file.write(os.urandom(40 * 4096))
        done = server.run("maintain")
        assert done.returncode == 1
        assert f"{MDT}: maintenance failed: " in done.stderr and f"set aside as {state}.broken" in done.stderr
        assert state.with_name(f"{state.name}.broken").exists() and not state.exists()
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    eventually(lambda: "was removed or replaced: it is opened anew" in server.log.read_text())
    eventually(lambda: server.run("maintain").returncode == 0)
    assert verdict(server.redis, mdt).events == {"NEW": 2000}
    assert settled(server, mdt)


def test_without_redis_a_run_fails_in_one_line(private_server: PrivateServer) -> None:
    redis_server = private_server(appendonly="yes")
    server, mdt = SimulatedServer(redis_server, 0), SimulatedMdt(MDT)
    try:
        populate(mdt, 10)
        mdt.mount(server.mds)
        server.start_polled(mdt)
        maintenance_pid(server)
        redis_server.kill()
        run_now(server)
        failure = f"maintenance: {MDT}: maintenance failed: cannot lock the maintenance of stream {STREAM}"
        eventually(lambda: failure in server.log.read_text())
        refused = server.run("maintain")
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1
        assert "cannot lock the maintenance of stream" in refused.stderr
        redis_server.start()
        eventually(lambda: server.run("maintain").returncode == 0)
        assert "Traceback" not in server.log.read_text()
    finally:
        server.close()
