"""Maintenance by the installed commands: scheduled, by signal, by `maintain`, with --run-once."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from hsm_shipper.config import KEYS
from hsm_shipper.state.maintenance_log import last_runs, runs_file
from tests.acceptance.conftest import MakeServer
from tests.simulator import SimulatedMdt, populate
from tests.support.maintained import LOCK, add_history, damage, maintenance_pid, runs_of, settled
from tests.support.shipper import clean_environment
from tests.support.site import MDT, STREAM, SimulatedServer, is_true, verdict
from tests.support.waiting import DEADLINE_S, eventually

DOCUMENTATION = Path(__file__).parents[2] / "docs/maintenance.md"


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
    header, _, row = server.wait_status_ok().stdout.splitlines()[-3:]
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
    begun_at = time.time()
    server.start_polled(mdt)
    eventually(lambda: len(runs_of(server)) >= 3)
    *_, newest = runs = runs_of(server)
    assert newest.started_at - begun_at > len(runs) - 1.1, "more often than once a second"
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


@pytest.mark.soak
def test_two_hundred_mdts_take_turns(server: SimulatedServer) -> None:
    server.configure(reconcile_interval=366 * 86_400)  # or one of so many is due while we look
    mdts = {name: SimulatedMdt(name) for name in (f"elm-MDT{number:04x}" for number in range(200))}
    for mdt in mdts.values():
        populate(mdt, 5)
        mdt.mount(server.mds)
    assert server.run("--run-once").returncode == 0
    for mdt in mdts.values():
        lost = cast(list[tuple[bytes, object]], server.redis.xrange(f"hsm:actions:{mdt.name}"))[1][0]
        server.redis.xdel(f"hsm:actions:{mdt.name}", lost)
    with server.log.open("ab") as log:
        program = subprocess.Popen(
            [sys.executable, "-m", "hsm_shipper.maintenance.main", "--config", str(server.config)],
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
        assert program.wait(DEADLINE_S) == 0
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
