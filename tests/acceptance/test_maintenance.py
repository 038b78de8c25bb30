"""Maintenance by the installed commands: scheduled, by signal, by `maintain`, with --run-once; and what goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import cast

import msgspec
import pytest

from hsm_shipper.config import KEYS
from hsm_shipper.events import Event
from hsm_shipper.forget import maintenance_lock_path
from hsm_shipper.keys import maintenance_key
from hsm_shipper.locks import FileLock
from hsm_shipper.redis_lock import RENEW_AFTER_S
from hsm_shipper.runs import Run, last_runs, runs_file
from hsm_shipper.state_view import state_file
from tests.acceptance.conftest import MakeServer
from tests.acceptance.shipper import COMMAND, clean_environment
from tests.acceptance.site import MDT, SimulatedServer, is_true, verdict
from tests.conftest import PrivateServer
from tests.simulator import SimulatedMdt, populate
from tests.waiting import eventually

STREAM = f"hsm:actions:{MDT}"
LOCK = maintenance_key("hsm:actions", MDT)
MAINTAINED = f"{MDT} is maintained from now on"
HISTORY_ENTRIES = 20_000  # a run reads them in some tenths of a second
# In the server, where making many takes no time.
_ADD_FINISHED_ACTIONS = """
for n = 0, ARGV[2] / 2 - 1 do
    local action = string.format(
        '"mdt":"%s","cat_idx":9,"rec_idx":%d,"fid":"0x1:0x%x:0x0","action":"ARCHIVE","action_key":"0x1:0x%x:0x0:ARCHIVE",',
        ARGV[1], n, n, n) .. '"timestamp":1,"hash":"00000000000000000000000000000000","cookie":"0x1",'
    redis.call('XADD', KEYS[1], '*', 'data', '{' .. action .. '"event_type":"NEW","status":"WAITING"}')
    redis.call('XADD', KEYS[1], '*', 'data', '{' .. action .. '"event_type":"PURGED","status":"PURGED"}')
end
"""
DOCUMENTATION = Path(__file__).parents[2] / "docs/maintenance.md"


def damage(server: SimulatedServer, mdt: SimulatedMdt, poll: Callable[[], object]) -> None:
    """Make one orphan and one missing action in the stream of `mdt`, by deleting entries that no poll looks at."""
    gone, lost = mdt.records()[:2]
    mdt.remove(gone)
    mdt.write()
    poll()
    mdt.submit("ARCHIVE")
    mdt.write()
    poll()  # its NEW is the newest entry: that one is looked at
    ids = {}
    for entry_id, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], server.redis.xrange(STREAM)):
        event = msgspec.json.decode(fields[b"data"], type=Event)
        ids[event.event_type, event.cat_idx, event.rec_idx] = entry_id
    server.redis.xdel(STREAM, ids["PURGED", *gone.place], ids["NEW", *lost.place])
    assert not is_true(server.redis, mdt)


def add_history(server: SimulatedServer, entries: int, *, kept: bool = False) -> None:
    """Put `entries` events of finished actions into the stream; with `kept` a consumer group needs all of them."""
    server.redis.eval(_ADD_FINISHED_ACTIONS, 1, STREAM, MDT, entries)
    if kept:
        server.redis.xgroup_create(STREAM, "slow", "0")


def maintenance_pid(server: SimulatedServer) -> int:
    """The maintenance program's process, once it maintains an MDT."""
    eventually(lambda: MAINTAINED in server.log.read_text())
    return server.programs()["maintenance"].pid


def run_now(server: SimulatedServer) -> None:
    """Have the maintenance program run everything now."""
    os.kill(maintenance_pid(server), signal.SIGUSR1)


def start_with_history(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """Start it on a stream so long that a run takes its time, and that a consumer group keeps so."""
    add_history(server, HISTORY_ENTRIES, kept=True)
    server.start_polled(mdt)
    eventually(lambda: runs_of(server))  # its length has started one
    assert server.redis.xlen(STREAM) >= HISTORY_ENTRIES


def runs_of(server: SimulatedServer, mdt: str = MDT) -> list[Run]:
    """Every recorded run, oldest first."""
    path = runs_file(server.state_dir)
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=10)) as database:
        database.row_factory = sqlite3.Row
        with contextlib.suppress(sqlite3.OperationalError):  # not made yet
            rows = database.execute("SELECT * FROM runs WHERE mdt = ? ORDER BY id", (mdt,)).fetchall()
            return [msgspec.convert({key: row[key] for key in row.keys() if key != "id"}, Run) for row in rows]  # noqa: SIM118
    return []


@contextlib.contextmanager
def held_in_a_run(server: SimulatedServer) -> Iterator[int]:
    """The maintenance program, stopped while it reads the stream; goes on afterwards, if it still lives."""
    pid = maintenance_pid(server)
    run_now(server)
    eventually(lambda: server.redis.exists(LOCK), interval_s=0.001)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert server.redis.exists(LOCK), "it was too quick: HISTORY_ENTRIES are too few"
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def settled(server: SimulatedServer, mdt: SimulatedMdt) -> bool:
    """Whether the stream tells what the listing holds."""
    return is_true(server.redis, mdt)


def test_maintain_heals_beside_a_running_shipper(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.start_polled(mdt)
    damage(server, mdt, lambda: server.wait_polled(mdt))
    done = server.run("maintain", MDT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"{MDT}: read 100 entries") and "healed 1 orphans, 1 missing" in done.stdout
    assert "in the stream and unknown here" in done.stderr  # what was healed is said as a warning
    eventually(lambda: settled(server, mdt))
    assert verdict(server.redis, mdt).complaints == []
    assert not server.redis.exists(LOCK)

    (run,) = runs_of(server)
    assert (run.host, run.orphans, run.missing, run.healed, run.error) == ("mds1", 1, 1, 2, None)
    server.wait_all_running()
    eventually(lambda: server.run("status").returncode == 0)
    header, _, row = server.run("status").stdout.splitlines()[-3:]
    assert "healed" in header and "length" in header
    assert row.split()[0] == MDT and row.split()[-4:-1] == ["2", "0", "0"]
    assert 100 <= int(row.split()[-1]) <= 102, "what is healed may be appended before the run ends"
    told = json.loads(server.run("status", "--json").stdout)
    assert told["maintenance"]["state"] in ("STARTING", "RUNNING")
    assert told["mdts"][0]["maintenance"]["healed"] == 2
    again = server.run("maintain")
    assert again.returncode == 0 and "healed 0 orphans, 0 missing, 0 differing" in again.stdout


def test_maintain_of_what_is_not_here(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    refused = server.run("maintain")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "no shipper runs here" in refused.stderr and "--run-once --maintenance-now" in refused.stderr
    server.start_polled(mdt)
    refused = server.run("maintain", MDT, "elm-MDT0007")
    assert refused.returncode == 2 and refused.stdout == ""
    assert "elm-MDT0007: not on this server; here: elm-MDT0000" in refused.stderr
    assert server.run("--maintenance-now").returncode == 2


def test_maintain_uses_what_the_shipper_was_started_with(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """Another database would look as if every action were missing from its stream."""
    server.start_polled(mdt)
    done = server.run("maintain", HSM_REDIS_DB="0")
    assert done.returncode == 0 and "100 live; healed 0 orphans, 0 missing" in done.stdout


def test_run_once_heals_in_one_call(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    def poll() -> None:
        assert server.run("--run-once").returncode == 0

    poll()
    damage(server, mdt, poll)
    done = server.run("--run-once", "--maintenance-now")
    assert done.returncode == 0, done.stderr
    before, cycle, after = done.stdout.splitlines()
    assert "shipped 0 NEW, 0 UPDATE, 0 PURGED" in before
    assert "healed 1 orphans, 1 missing, 0 differing" in cycle
    assert "shipped 1 NEW, 0 UPDATE, 1 PURGED" in after
    assert settled(server, mdt) and verdict(server.redis, mdt).complaints == []


def test_a_signal_runs_it_now(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.start_polled(mdt)
    damage(server, mdt, lambda: server.wait_polled(mdt))
    maintenance_pid(server)
    assert "maintenance: signalled" in server.supervisorctl("signal", "USR1", "maintenance")
    eventually(lambda: settled(server, mdt))
    assert verdict(server.redis, mdt).complaints == []
    eventually(lambda: [run.healed for run in runs_of(server)] == [2])


def test_it_runs_on_its_interval_and_makes_up_for_a_run_that_was_missed(make_server: MakeServer) -> None:
    server, mdt = make_server(reconcile_interval=1), SimulatedMdt(MDT)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    eventually(lambda: len(runs_of(server)) >= 2, 20.0)
    runs = runs_of(server)
    assert 0.5 < runs[1].started_at - runs[0].started_at < 2.5
    server.supervisorctl("stop", "maintenance")
    shown = server.run("status")
    assert shown.returncode == 1 and "maintenance is STOPPED: streams are not healed" in shown.stdout
    last = runs_of(server)[-1].started_at
    eventually(lambda: time.time() > last + 2.1)  # two due times
    assert "was due more than once since" in server.run("check").stdout
    server.supervisor._call("startProcess", "maintenance", False)  # not waiting until it is called RUNNING
    eventually(lambda: f"{MDT}: a maintenance run was missed: it runs now" in server.log.read_text())


def test_a_schedule_is_used_and_told(make_server: MakeServer) -> None:
    server, mdt = make_server(reconcile_schedule="30 2 * * *"), SimulatedMdt(MDT)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    maintenance_pid(server)
    assert "02:30:00 UTC" in server.log.read_text()
    told = server.run("check").stdout
    assert "at '30 2 * * *' (cron, UTC), next 20" in told and " 02:30 UTC" in told
    server.configure(reconcile_schedule="61 * * * *")
    refused = server.run("status")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1 and "reconcile_schedule" in refused.stderr


def test_a_stream_that_grew_too_long_does_not_wait(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.start_polled(mdt)
    maintenance_pid(server)
    add_history(server, 5000)
    eventually(lambda: server.redis.xlen(STREAM) <= 1200)
    assert "the stream has" in server.log.read_text()
    eventually(lambda: settled(server, mdt))


def test_a_second_run_waits_or_is_refused(make_server: MakeServer, server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """One on this server waits for the first one to end; one on another server is told who works."""
    start_with_history(server, mdt)
    before = len(runs_of(server))
    other = make_server("mds2")
    other.mds.add_folders(MDT)
    other.mds.actions_path(MDT).write_bytes(mdt.listing())
    with held_in_a_run(server) as pid:
        refused = other.run("--run-once", "--maintenance-now")
        assert refused.returncode == 1
        assert f"is already running (held by mds1, pid {pid}, lock {LOCK})" in refused.stderr
        assert runs_of(other) == []
        waiting = subprocess.Popen(
            [str(COMMAND), "-c", str(server.config), "maintain"],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        assert f"waiting at most 65 s: maintenance of {MDT} is already running (pid {pid}" in waiting.stderr.readline()
    stdout, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and stdout.startswith(f"{MDT}: read ")
    assert len(runs_of(server)) == before + 2


def test_waiting_for_another_run_can_be_interrupted(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.start_polled(mdt)
    with FileLock(maintenance_lock_path(server.state_dir, MDT), "this test"):
        waiting = subprocess.Popen(
            [str(COMMAND), "-c", str(server.config), "maintain"],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        assert "waiting" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        stdout, stderr = waiting.communicate(timeout=10)
    assert (waiting.returncode, stdout) == (130, "")
    assert "interrupted" in stderr and "Traceback" not in stderr


def test_another_servers_run_is_waited_for(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """The maintenance program says who holds the lock, and comes back when it has expired."""
    server.start_polled(mdt)
    maintenance_pid(server)
    server.redis.set(LOCK, "mds9:4711:0", px=2000)
    run_now(server)
    eventually(lambda: "already running (held by mds9, pid 4711" in server.log.read_text())
    assert re.search(r": skipped, tried again in [12] s", server.log.read_text())
    assert runs_of(server) == []
    eventually(lambda: len(runs_of(server)) == 1)


@pytest.mark.parametrize("taken", [True, False])
def test_a_lock_that_is_lost_ends_the_run_where_it_stands(
    server: SimulatedServer, mdt: SimulatedMdt, taken: bool
) -> None:
    start_with_history(server, mdt)
    damage(server, mdt, lambda: server.wait_polled(mdt))
    with held_in_a_run(server):
        length = server.redis.xlen(STREAM)
        if taken:
            server.redis.set(LOCK, "mds9:4711:0")
        else:
            server.redis.delete(LOCK)
        lost_at = time.monotonic()
        eventually(lambda: time.monotonic() > lost_at + RENEW_AFTER_S)
    eventually(lambda: "lost the lock" in server.log.read_text())
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


def test_a_damaged_state_file_is_set_aside_and_made_anew(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    server.configure(poll_interval=0.5)  # longer than a poll: it is hardly stopped in one
    populate(mdt, 2000)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    state = state_file(server.state_dir, MDT)
    worker = server.worker(MDT)
    assert worker is not None
    os.kill(worker.pid, signal.SIGSTOP)
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


def test_many_mdts_take_turns(server: SimulatedServer) -> None:
    mdts = {name: SimulatedMdt(name) for name in (f"elm-MDT{number:04x}" for number in range(60))}
    for mdt in mdts.values():
        populate(mdt, 5)
        mdt.mount(server.mds)
    assert server.run("--run-once").returncode == 0
    for mdt in mdts.values():
        lost = cast(list[tuple[bytes, object]], server.redis.xrange(f"hsm:actions:{mdt.name}"))[1][0]
        server.redis.xdel(f"hsm:actions:{mdt.name}", lost)
    with server.log.open("ab") as log:
        program = subprocess.Popen(
            [sys.executable, "-m", "hsm_shipper.maintenance", "--config", str(server.config)],
            env=clean_environment(),
            stderr=log,
        )
    try:
        eventually(lambda: server.log.read_text().count("is maintained from now on") == len(mdts))
        program.send_signal(signal.SIGUSR1)
        eventually(lambda: last_runs(server.state_dir).keys() == mdts.keys())
        spans = sorted(
            (run.started_at, run.started_at + run.duration_s) for run in last_runs(server.state_dir).values()
        )
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
    assert "ERROR" not in server.log.read_text()
    assert {run.missing for run in last_runs(server.state_dir).values()} == {1}
    assert server.run("--run-once").returncode == 0
    assert [name for name, mdt in mdts.items() if not is_true(server.redis, mdt)] == []


def test_the_queries_of_the_documentation_run(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    assert server.run("--run-once", "--maintenance-now").returncode == 0
    text = DOCUMENTATION.read_text()
    queries = text.split("```sql")[1].split("```")[0]
    with closing(sqlite3.connect(runs_file(server.state_dir))) as database:
        found = [database.execute(query).fetchall() for query in queries.split(";") if query.strip()]
    assert [len(rows) for rows in found] == [1, 0, 1]
    for key in ("reconcile_interval", "reconcile_schedule", "aggressive_trim_threshold", "consumer_group_backlog_max"):
        assert key in KEYS and f"{key}: " in text
