"""`hsm-action-shipper status`: the table, the JSON and the exit status, whatever state things are in."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3

import pytest

from hsm_shipper.cli import main
from hsm_shipper.supervision import supervisord
from hsm_shipper.supervision.supervisord import DISCOVERY, WORKER_PREFIX
from tests.simulator import ARCHIVE, SimulatedMdt
from tests.support.shipper import MetadataServer, action_line
from tests.support.site import MDT, SimulatedServer
from tests.support.waiting import eventually

PATIENCE_S = 60.0


def test_status_of_a_running_shipper(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1), action_line(2))
    server.add_mdt("elm-MDT0001")
    server.start()
    server.wait_running("elm-MDT0000", "elm-MDT0001")
    server.wait_all_running()
    shown = server.wait_status_ok()
    header, _, first, second = shown.stdout.splitlines()
    columns = ["MDT", "worker", "last poll", "duration", "read", "lines", "live", "shipped", "backlog", "last error"]
    assert [header.index(column) for column in columns] == sorted(header.index(column) for column in columns)
    assert first.split()[:2] == ["elm-MDT0000", "RUNNING"]
    assert first.split()[-5:] == ["2", "2", "2", "0", "-"]
    assert second.split()[-5:] == ["0", "0", "0", "0", "-"]

    told = json.loads(server.wait_status_ok("--json").stdout)
    assert told["ok"] and told["running"] and told["troubles"] == []
    mdt = told["mdts"][0]
    assert (mdt["mdt"], mdt["worker"]["state"], mdt["stale"], mdt["present"]) == ("elm-MDT0000", "RUNNING", False, True)
    assert (mdt["poll"]["live"], mdt["poll"]["events_shipped"]) == (2, 2)
    assert 0 < mdt["poll"]["last_poll_read_s"] < mdt["poll"]["last_poll_duration_s"]


def test_status_without_a_running_shipper(server: MetadataServer) -> None:
    shown = server.run("status")
    assert shown.returncode == 2
    assert shown.stdout == (
        f"no MDT on this server\nsupervisord is not running (nobody listens on {server.run_dir}/supervisor.sock)\n"
    )
    server.add_mdt("elm-MDT0000", action_line(1))
    server.run("--run-once")
    shown = server.run("status")
    assert shown.returncode == 2
    assert "elm-MDT0000  none" in shown.stdout and "nobody listens" in shown.stdout
    told = json.loads(server.run("status", "--json").stdout)
    assert not told["ok"] and not told["running"]
    assert told["mdts"][0]["worker"] is None and told["mdts"][0]["poll"]["lines"] == 1


def test_status_tells_what_waits_and_since_when(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.run("--run-once")
    with sqlite3.connect(server.state_dir / "elm-MDT0000.sqlite3") as database:
        database.execute("UPDATE poll_status SET backlog = 1234, backlog_since = last_poll_at - 36000")
    database.close()
    assert "1,234 (10 h)" in server.run("status").stdout
    poll = json.loads(server.run("status", "--json").stdout)["mdts"][0]["poll"]
    assert (poll["backlog"], round(poll["last_poll_at"] - poll["backlog_since"])) == (1234, 36_000)


def test_status_tells_an_error_and_makes_it_harmless(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.run("--run-once")
    with sqlite3.connect(server.state_dir / "elm-MDT0000.sqlite3") as database:
        database.execute(
            "UPDATE poll_status SET last_error = ?, last_error_at = last_poll_at", ("\x1b[2J broken\nhere",)
        )
    database.close()
    shown = server.run("status")
    assert "\x1b" not in shown.stdout and r"\x1b[2J broken\x0ahere" in shown.stdout
    assert r"elm-MDT0000: last poll failed: \x1b[2J" in shown.stdout


def test_status_tells_lines_that_are_not_understood(server: MetadataServer) -> None:
    actions = server.add_mdt("elm-MDT0000", action_line(1), b"something else\n", b"\x1b[2J\n")
    server.start()
    said = (
        "elm-MDT0000: 2 of 3 lines of the actions file are not understood, and not shipped: "
        "`hsm-action-shipper check` shows the first\n"
    )
    shown = eventually(lambda: said in (done := server.run("status")).stdout and done, PATIENCE_S)
    assert shown and shown.returncode == 1
    assert not json.loads(server.run("status", "--json").stdout)["ok"]
    actions.write_bytes(action_line(1))
    eventually(lambda: server.run("status").returncode == 0, PATIENCE_S)


def test_status_tells_slots_that_nobody_works_on(server: SimulatedServer) -> None:
    mdt = SimulatedMdt(MDT, max_requests=3)
    for _ in range(5):
        mdt.submit(ARCHIVE)
    mdt.dispatch()
    mdt.mount(server.mds)
    server.start_polled(mdt)
    eventually(lambda: server.run("status").returncode == 0, PATIENCE_S)  # they are at work
    mdt.kill_copytools()
    mdt.write()
    shown = server.run("status")
    assert shown.returncode == 1
    assert (
        f"{MDT}: no slot is left (max_requests 3), and no copytool works on 3 of the 3 active requests: "
        "set hsm_control to shutdown, then to enabled, and restart the copytools\n"
    ) in shown.stdout


def test_status_shows_stale_polls(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_running("elm-MDT0000")
    server.wait_all_running()
    server.wait_status_ok()
    worker = server.programs()["mdt-elm-MDT0000"]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        eventually(lambda: "(stale)" in server.run("status").stdout)
        shown = server.run("status")
        assert shown.returncode == 1
        assert "elm-MDT0000: no poll for a long time" in shown.stdout
    finally:
        os.kill(worker.pid, signal.SIGCONT)


@pytest.mark.parametrize("content", [b"no database " * 100, b"SQLite format 3\0"])
def test_status_with_a_broken_state_file(server: MetadataServer, content: bytes) -> None:
    server.add_mdt("elm-MDT0000")
    server.state_dir.mkdir()
    (server.state_dir / "elm-MDT0000.sqlite3").write_bytes(content)
    shown = server.run("status")
    assert shown.returncode == 2
    assert "elm-MDT0000: cannot read state file" in shown.stdout
    assert "elm-MDT0000  none      never" in shown.stdout


def test_status_of_a_worker_that_cannot_begin_says_where_the_reason_is(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000")
    server.configure(redis_password_file=f"{server.root}/none")
    server.start()
    why = f"(why: the last line of {WORKER_PREFIX}elm-MDT0000 in the log)"
    told = eventually(lambda: re.search(r"worker is (BACKOFF|FATAL)(.*)", server.run("status").stdout))
    assert told and told[2].strip() == why
    assert "mdt-elm-MDT0000: redis_password_file: cannot read" in server.log.read_text()


def test_status_while_discovery_is_stopped(server: MetadataServer) -> None:
    server.start()
    server.wait_all_running()
    server.wait_status_ok()
    server.supervisor._call("stopProcess", DISCOVERY)
    shown = server.run("status")
    assert shown.returncode == 1
    assert "discovery is STOPPED" in shown.stdout


def test_status_of_a_supervisord_that_hangs(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.start()
    monkeypatch.setattr(supervisord, "REPLY_TIMEOUT_S", 0.5)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert main(["-c", str(server.config), "status"]) == 1
        shown = capsys.readouterr().out
        assert "did not answer" in shown and "timed out" in shown
    finally:
        os.kill(server.pid, signal.SIGCONT)
