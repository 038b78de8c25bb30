"""`hsm-stream-reconciler`, installed: what it does not say without knowing."""

from __future__ import annotations

import json
from typing import cast

import pytest

from hsm_shipper.state.poll_status import state_file
from tests.acceptance.conftest import MakeServer
from tests.conftest import PrivateServer
from tests.simulator import SimulatedMdt, populate
from tests.support.audits import CONSISTENT, INCONSISTENT, UNKNOWN, age_poll, audit, beat, found, run
from tests.support.damage import Damage
from tests.support.site import LIVE, MDT, STREAM, SimulatedServer


def live_key(server: SimulatedServer) -> bytes:
    """The `action_key` of the first action in the stream."""
    ((_, fields),) = cast(list[tuple[bytes, dict[bytes, bytes]]], server.redis.xrange(STREAM, count=1))
    return cast(str, json.loads(fields[b"data"])["action_key"]).encode()


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


def test_without_a_worker_what_is_new_in_the_file_accuses_nobody(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    polling.supervisor._call("stopProcess", f"mdt-{MDT}")
    mdt.submit("ARCHIVE")
    mdt.write()
    # Behind what the state file has followed: that is not held against it.
    polling.redis.xadd(STREAM, {"data": b'{"event_type": "PURGED", "action_key": "%s"}' % live_key(polling)})
    age_poll(polling)
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


@pytest.mark.parametrize("table", ["actions", "stream_position"])
def test_a_damaged_state_file_is_one_line(server: SimulatedServer, mdt: SimulatedMdt, table: str) -> None:
    server.run("--run-once")
    column = "hash" if table == "actions" else "last_stream_id"
    Damage(table, column, "'x'").do(state_file(server.state_dir, MDT))
    report = audit(server, UNKNOWN)
    assert f"is damaged: {column} is 'x'" in report["state_file"]["untold"] and found(report) == (0, 0, 0)


def test_a_key_that_is_no_stream(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.redis.set(STREAM, "a word")
    report = audit(server, UNKNOWN)
    assert report["live"] is None and "the key is no stream" in report["troubles"][0]


def test_a_coordinator_that_comes_up_proves_nothing(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    server.run("--run-once")
    mdt.set_hsm_control("init")
    assert "'init'" in audit(server, UNKNOWN)["actions_file"]["untold"]


def test_what_a_line_says_that_is_not_understood_is_not_known(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    strange = mdt.lines()[0].replace(b"fid=[0x", b"fid=[\x1b[2J0y") + b"\n"
    listing = mdt.listing()
    server.mds.write_actions(MDT, [listing, strange, b"?\n"])
    server.run("--run-once")
    report = audit(server, UNKNOWN)
    assert (report["verdict"], found(report), report["actions_file"]["not_compared"]) == ("unknown", (0, 0, 0), 2)
    (trouble,) = report["troubles"]
    assert trouble.startswith(f"2 of {LIVE + 2} lines of {server.mds.actions_path(MDT)} could not be compared, for ")
    done = run(server)
    assert (done.returncode, done.stdout.splitlines()[2].split()[1]) == (UNKNOWN, "unknown")
    assert "could not be compared" in done.stdout and r"fid=[\x1b[2J0y" in done.stdout and "\x1b" not in done.stdout

    server.mds.write_actions(MDT, [listing, mdt.lines()[0].replace(b"gid=0x0", b"gid=0x1") + b"\n"])
    assert "say of a place what another line says otherwise" in audit(server, UNKNOWN)["troubles"][0]
    server.mds.write_actions(MDT, [listing])
    report = audit(server, CONSISTENT)
    assert (report["actions_file"]["not_compared"], report["troubles"]) == (0, [])


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
