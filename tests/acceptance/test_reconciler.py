"""`hsm-stream-reconciler`, installed: what it finds, what it does not say without knowing, and what it heals."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from hsm_shipper.heartbeat import Heartbeat, encode
from hsm_shipper.keys import heartbeat_key, maintenance_key
from hsm_shipper.state_view import state_file
from tests.acceptance.conftest import MakeServer
from tests.acceptance.shipper import clean_environment
from tests.acceptance.site import LIVE, MDT, SimulatedServer, is_true
from tests.conftest import PrivateServer
from tests.simulator import SimulatedMdt, Workload, populate
from tests.waiting import eventually

COMMAND = Path(sys.executable).with_name("hsm-stream-reconciler")
STREAM = f"hsm:actions:{MDT}"
CONSISTENT, INCONSISTENT, UNKNOWN = 0, 1, 2


@pytest.fixture
def polling(server: SimulatedServer, mdt: SimulatedMdt) -> SimulatedServer:
    """`server` with a shipper that has polled `mdt`."""
    server.start_polled(mdt)
    return server


def run(server: SimulatedServer, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The command to its end, with the configuration of `server`; it never ends in a traceback."""
    command = [str(COMMAND), "-c", str(server.config), *arguments]
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=90, check=False, **more
    )
    assert "Traceback" not in done.stderr
    return done


def audit(server: SimulatedServer, code: int, *arguments: str) -> dict[str, Any]:
    """What it says about the one stream there is, after it ended with the exit code `code`."""
    done = run(server, "--json", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    (mdt,) = json.loads(done.stdout)["mdts"]
    return cast(dict[str, Any], mdt)


def found(report: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Orphans, missing and differing actions."""
    return report["orphans"], report["missing"], report["differing"]


def beat(server: SimulatedServer) -> None:
    """Write a heartbeat as the worker does."""
    beat = Heartbeat(
        host="mds1",
        pid=1,
        mdt=MDT,
        last_poll_at=time.time(),
        last_poll_duration_s=0.01,
        poll_interval_s=0.05,
        lines=LIVE,
        live=LIVE,
        backlog=0,
    )
    server.redis.set(heartbeat_key("hsm:actions", MDT), encode(beat))


def entries(server: SimulatedServer, event_type: str) -> list[bytes]:
    """Ids of the entries of one type."""
    pairs = cast(list[tuple[bytes, dict[bytes, bytes]]], server.redis.xrange(STREAM))
    return [entry_id for entry_id, fields in pairs if json.loads(fields[b"data"])["event_type"] == event_type]


def live_key(server: SimulatedServer) -> bytes:
    """The `action_key` of the first action in the stream."""
    ((_, fields),) = cast(list[tuple[bytes, dict[bytes, bytes]]], server.redis.xrange(STREAM, count=1))
    return cast(str, json.loads(fields[b"data"])["action_key"]).encode()


def poll(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """Have the running worker ship the listing."""
    mdt.write()
    server.wait_polled(mdt)


def lose(server: SimulatedServer, mdt: SimulatedMdt, event_type: str) -> None:
    """Delete the newest entry of a type from the stream, which then is not the newest entry of all.

    A worker looks at that one only, so that it does not notice.
    """
    mdt.submit("ARCHIVE")
    poll(server, mdt)
    assert server.redis.xdel(STREAM, entries(server, event_type)[-1 - (event_type == "NEW")]) == 1


def make_orphan(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    mdt.remove(mdt.records()[0])
    poll(server, mdt)
    lose(server, mdt, "PURGED")


def make_missing(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    lose(server, mdt, "NEW")


def make_differing(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    mdt.set_status(next(record for record in mdt.records() if record.status == "WAITING"), "FAILED")
    poll(server, mdt)
    lose(server, mdt, "UPDATE")


def test_a_true_stream(polling: SimulatedServer) -> None:
    beat(polling)
    report = audit(polling, CONSISTENT)
    assert found(report) == (0, 0, 0)
    assert (report["live"], report["entries"], report["garbage_ratio"]) == (LIVE, LIVE, 0)
    assert (report["duplicates"], report["malformed"], report["purged_without_new"]) == (0, 0, 0)
    assert report["entries_bound"] == 2 * LIVE + 1000
    assert 0 <= report["heartbeat_age_s"] < 30 and report["heartbeat"]["host"] == "mds1"
    assert report["state_file"]["untold"] is None and report["actions_file"]["untold"] is None
    assert report["troubles"] == []
    done = run(polling, MDT)
    assert (done.returncode, done.stderr) == (CONSISTENT, "")
    assert done.stdout.splitlines()[2].split()[:6] == [MDT, "consistent", str(LIVE), "0", "0", "0"]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [(make_orphan, (1, 0, 0)), (make_missing, (0, 1, 0)), (make_differing, (0, 0, 1))],
    ids=["orphan", "missing", "differing"],
)
def test_what_differs_is_found_and_healed(
    polling: SimulatedServer,
    mdt: SimulatedMdt,
    damage: Callable[[SimulatedServer, SimulatedMdt], None],
    expected: tuple[int, int, int],
) -> None:
    damage(polling, mdt)
    report = audit(polling, INCONSISTENT)
    assert found(report) == expected
    for reference in ("state_file", "actions_file"):
        assert found(report[reference]) == expected and len(report[reference]["examples"]) == 1
    done = run(polling, "--fix", "--dry-run")
    assert done.returncode == INCONSISTENT and f"would be healed by: hsm-action-shipper maintain {MDT}" in done.stderr
    assert found(audit(polling, INCONSISTENT)) == expected
    report = audit(polling, CONSISTENT, "--fix")
    assert found(report) == (0, 0, 0)
    assert is_true(polling.redis, mdt)


def test_malformed_entries_are_told(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    entry_id = cast(bytes, polling.redis.xadd(STREAM, {"data": b"\x1b[2J no event"})).decode()
    polling.wait_polled(mdt)
    report = audit(polling, INCONSISTENT)
    assert (report["malformed"], report["malformed_ids"]) == (1, [entry_id]) and found(report) == (0, 0, 0)
    assert f"1 malformed entries: {entry_id}" in run(polling).stdout


def test_what_says_nothing_new_only_informs(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    mdt.remove(mdt.records()[0])
    poll(polling, mdt)
    pairs = cast(list[tuple[bytes, dict[bytes, bytes]]], polling.redis.xrange(STREAM))
    polling.redis.xadd(STREAM, cast(Any, pairs[-1][1]))  # the PURGED, again
    polling.redis.xadd(STREAM, cast(Any, pairs[-2][1]))  # a NEW, again
    polling.wait_polled(mdt)
    report = audit(polling, CONSISTENT)
    assert (report["duplicates"], report["purged_without_new"], report["entries"]) == (1, 1, LIVE + 3)
    assert report["garbage_ratio"] == pytest.approx(4 / (LIVE + 3))


def test_away_from_the_server_it_does_not_claim_to_know(polling: SimulatedServer, make_server: MakeServer) -> None:
    elsewhere = make_server("client")
    beat(polling)
    report = audit(elsewhere, UNKNOWN)
    assert (report["live"], report["heartbeat"]["host"]) == (LIVE, "mds1")
    assert found(report) == (None, None, None) and report["state_file"] is None and report["actions_file"] is None
    done = run(elsewhere)
    assert done.returncode == UNKNOWN and done.stdout.splitlines()[2].split()[1:6] == [
        "unknown", str(LIVE), "?", "?", "?"
    ]  # fmt: skip
    assert "only on the server that has the MDT" in done.stdout
    polling.redis.xadd(STREAM, {"data": "no event"})
    assert audit(elsewhere, INCONSISTENT)["malformed"] == 1


def test_nothing_is_accused_beside_a_worker_at_full_speed(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    workload = Workload(mdt, arrivals_per_s=50.0)
    done = threading.Event()

    def live() -> None:
        while not done.wait(0.02):
            workload.advance(2)
            mdt.write()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        for _ in range(5):
            assert found(audit(polling, CONSISTENT)) == (0, 0, 0)
    finally:
        done.set()
        thread.join()
    assert len(entries(polling, "NEW")) > 2 * LIVE


def test_without_a_shipper_nothing_is_fixed(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.run("--run-once")
    server.redis.delete(STREAM)
    done = run(server, "--fix")
    assert done.returncode == INCONSISTENT and "no shipper runs here" in done.stderr
    assert f"{LIVE} actions not in the stream, but in the state file: " in done.stdout


def test_without_a_worker_what_is_new_in_the_file_accuses_nobody(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    polling.supervisor._call("stopProcess", f"mdt-{MDT}")
    mdt.submit("ARCHIVE")
    mdt.write()
    # Behind what the state file has followed: that is not held against it.
    polling.redis.xadd(STREAM, {"data": b'{"event_type": "PURGED", "action_key": "%s"}' % live_key(polling)})
    report = audit(polling, UNKNOWN)
    assert found(report) == (0, 0, 0)  # by the state file alone
    assert report["state_file"]["untold"] is None
    assert "differs from the actions file" in report["actions_file"]["untold"]
    assert report["troubles"] == [report["actions_file"]["untold"]]


def test_without_a_state_file_nobody_knows_what_is_on_its_way(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    report = audit(server, UNKNOWN)
    assert (report["live"], report["entries"]) == (0, 0) and found(report) == (None, None, None)
    server.run("--run-once")
    assert found(audit(server, CONSISTENT)) == (0, 0, 0)
    state_file(server.state_dir, MDT).unlink()
    assert found(audit(server, CONSISTENT)) == (0, 0, 0)  # the actions file alone says so
    server.redis.delete(STREAM)
    assert found(audit(server, UNKNOWN)) == (None, None, None)


def test_a_flushed_stream_is_missing_everything(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.run("--run-once")
    server.redis.delete(STREAM)
    report = audit(server, INCONSISTENT)
    assert found(report) == (0, LIVE, 0) and len(report["state_file"]["examples"]) == LIVE


def test_the_state_left_behind_by_a_failover_accuses_nobody(make_server: MakeServer) -> None:
    mds1, mds2 = make_server("mds1"), make_server("mds2")
    mdt = SimulatedMdt(MDT)
    populate(mdt, LIVE)
    mdt.mount(mds1.mds)
    mds1.run("--run-once")
    mdt.unmount()
    assert found(audit(mds1, CONSISTENT)) == (0, 0, 0)
    mdt.mount(mds2.mds)
    mdt.submit("ARCHIVE")
    mdt.write()
    mds2.run("--run-once")
    assert found(audit(mds2, CONSISTENT)) == (0, 0, 0)
    report = audit(mds1, UNKNOWN)
    assert found(report) == (None, None, None) and "has left this server" in report["state_file"]["untold"]


@pytest.mark.parametrize("content", [b"no database " * 100, b""])
def test_a_broken_state_file_is_one_line(server: SimulatedServer, mdt: SimulatedMdt, content: bytes) -> None:
    server.run("--run-once")
    state_file(server.state_dir, MDT).write_bytes(content)
    report = audit(server, UNKNOWN)
    assert "state file" in report["state_file"]["untold"] and report["actions_file"]["untold"] is None
    assert found(report) == (0, 0, 0)


def test_a_key_that_is_no_stream(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.redis.set(STREAM, "a word")
    report = audit(server, UNKNOWN)
    assert report["live"] is None and "the key is no stream" in report["troubles"][0]


def test_a_coordinator_that_comes_up_proves_nothing(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.run("--run-once")
    mdt.set_hsm_control("init")
    assert "'init'" in audit(server, UNKNOWN)["actions_file"]["untold"]


@pytest.mark.parametrize(
    "arguments",
    [["--retire", MDT, "--fix"], ["--dry-run"], ["--yes"], ["no/mdt"], ["--fix", "--db", "3"], ["--retire", MDT, MDT]],
    ids=" ".join,
)
def test_usage(server: SimulatedServer, arguments: list[str]) -> None:
    done = run(server, *arguments)
    assert (done.returncode, done.stdout) == (UNKNOWN, "") and done.stderr


def test_nothing_there(server: SimulatedServer) -> None:
    done = run(server)
    assert done.returncode == UNKNOWN and "there is no stream hsm:actions:<MDT>" in done.stderr
    done = run(server, "oak-MDT0000")
    assert done.returncode == UNKNOWN and "oak-MDT0000: no such stream" in done.stderr


def test_redis_is_down(make_server: MakeServer, private_server: PrivateServer) -> None:
    redis = private_server()
    server = make_server(redis=redis)
    redis.kill()
    for arguments in ([], ["--json"], ["--retire", MDT, "--yes"]):
        done = run(server, *arguments)
        assert (done.returncode, done.stdout) == (UNKNOWN, "")
        assert len(done.stderr.splitlines()) == 1 and f":{redis.port}" in done.stderr


def test_who_may_only_read_streams_learns_what_they_say(make_server: MakeServer, private_server: PrivateServer) -> None:
    redis = private_server()
    server = make_server(redis=redis)
    mdt = SimulatedMdt(MDT)
    populate(mdt, LIVE)
    mdt.mount(server.mds)
    server.run("--run-once")
    permissions = ("on", "nopass", "resetkeys", "~hsm:actions:*", "-@all", "+@read", "+scan", "+select", "+type")
    server.redis.execute_command("ACL", "SETUSER", "reader", *permissions)  # type: ignore[no-untyped-call]
    server.configure(redis_url=f"redis://reader:any@127.0.0.1:{redis.port}/0")
    report = audit(server, CONSISTENT)
    assert report["live"] == LIVE and found(report) == (0, 0, 0)
    assert "cannot read the heartbeat" in report["remark"]
    assert "cannot read the heartbeat" in run(server).stdout


def test_retire(polling: SimulatedServer, mdt: SimulatedMdt, make_server: MakeServer) -> None:
    elsewhere = make_server("client")
    beat(polling)
    assert "is on this server" in run(polling, "--retire", MDT, "--yes").stderr
    done = run(elsewhere, "--retire", MDT, "--yes")
    assert done.returncode == UNKNOWN and "is alive" in done.stderr
    mdt.unmount()
    eventually(lambda: not state_file(polling.state_dir, MDT).exists())
    polling.redis.delete(heartbeat_key("hsm:actions", MDT))
    polling.redis.set(maintenance_key("hsm:actions", MDT), "left over")

    done = run(elsewhere, "--retire", MDT, stdin=subprocess.DEVNULL)
    assert done.returncode == UNKNOWN and "agree with --yes" in done.stderr
    done = run(elsewhere, "--retire", MDT, "--dry-run")
    assert (done.returncode, done.stdout.split()[:2]) == (CONSISTENT, ["would", "remove"])
    assert polling.redis.exists(STREAM)

    done = run(elsewhere, "--retire", MDT, "--yes")
    assert done.returncode == CONSISTENT and done.stdout.startswith(f"removed stream {STREAM} at ")
    assert polling.redis.keys("*") == []
    assert "there is no stream" in run(elsewhere, "--retire", MDT, "--yes").stderr


@pytest.mark.parametrize(("answer", "kept"), [("n", True), ("", True), ("y", False)])
def test_retire_asks_on_a_terminal(server: SimulatedServer, answer: str, kept: bool) -> None:
    server.redis.xadd(STREAM, {"data": "{}"})
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = run(server, "--retire", MDT, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == CONSISTENT and "for good? [y/N]" in done.stderr
    assert done.stdout.split()[0] == ("kept" if kept else "removed")
    assert bool(server.redis.exists(STREAM)) is kept


def test_help_names_every_exit_code_and_is_quick(server: SimulatedServer) -> None:
    done = run(server, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: hsm-stream-reconciler")
    assert all(word in done.stdout for word in ("exit codes:", "--retire", "--fix", "--dry-run", "examples:"))
