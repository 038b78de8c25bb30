"""The installed `hsm-action-shipper`: help, --run-once, status and check, their exit statuses and what they say."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper import __version__
from hsm_shipper.supervisor import DISCOVERY
from tests.acceptance.shipper import COMMAND, MetadataServer, action_line, clean_environment
from tests.conftest import PrivateServer
from tests.servers import RedisServer, free_port
from tests.waiting import eventually


@pytest.fixture
def server(redis_server: RedisServer, redis_db: int) -> Iterator[MetadataServer]:
    """A metadata server without MDTs; its shipper is not started."""
    server = MetadataServer(redis_server.port, redis_db)
    yield server
    server.close()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a configuration."""
    return subprocess.run(
        [str(COMMAND), *arguments], env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )


# --- the command line ---


def test_help_tells_exit_statuses_and_examples() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    for text in ("exit status:", "examples:", "--daemon", "--run-once", "--config", "status", "check"):
        assert text in shown.stdout
    assert all(len(line) <= 120 for line in shown.stdout.splitlines())
    for name in ("status", "check"):
        shown = command(name, "--help")
        assert shown.returncode == 0 and "exit status" in shown.stdout and "--json" in shown.stdout


def test_help_is_quick() -> None:
    """At most 0.15 s of our own on any machine: an interpreter that does nothing is the measure."""

    def best_s(*words: str) -> float:
        times = []
        for _ in range(5):
            begun = time.monotonic()
            subprocess.run(words, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
            times.append(time.monotonic() - begun)
        return min(times)

    python = str(COMMAND.with_name("python"))
    assert best_s(str(COMMAND), "--help") - best_s(python, "-c", "pass") < 0.15


def test_version() -> None:
    assert command("--version").stdout == f"hsm-action-shipper {__version__}\n"


@pytest.mark.parametrize("arguments", [("--bogus",), ("bogus",), ("--daemon", "--run-once"), ("--run-once", "check")])
def test_a_command_line_that_cannot_be_used(arguments: tuple[str, ...]) -> None:
    refused = command(*arguments)
    assert refused.returncode == 2
    assert refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("arguments", [(), ("--daemon",), ("--run-once",), ("status",)])
def test_a_configuration_that_cannot_be_used_is_one_line(server: MetadataServer, arguments: tuple[str, ...]) -> None:
    server.configure(pol_interval=7)
    refused = server.run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"hsm-action-shipper: error: {server.config}: unknown key 'pol_interval' (value 7); "
        "the nearest known key is 'poll_interval'\n"
    )


def test_a_configuration_that_is_not_there() -> None:
    refused = command("-c", "/no/such/file", "status")
    assert refused.returncode == 2
    assert "/no/such/file: No such file or directory" in refused.stderr


def test_warnings_of_the_configuration_are_said(server: MetadataServer) -> None:
    server.configure(trim_chunk_size=1000)
    done = server.run("--run-once", HSM_REDIS_HOTS="x")
    assert done.returncode == 0
    assert "hsm-action-shipper: warning:" in done.stderr
    assert "trim_chunk_size" in done.stderr and "HSM_REDIS_HOTS" in done.stderr


def test_the_configuration_can_be_named_after_the_command(server: MetadataServer) -> None:
    assert command("status", "-c", str(server.config)).stderr == ""
    relative = subprocess.run(
        [str(COMMAND), "--run-once", "-c", server.config.name],
        cwd=server.root,
        env=clean_environment(),
        capture_output=True,
        check=False,
    )
    assert relative.returncode == 0


# --- --run-once ---


def test_run_once_polls_every_mdt(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1), action_line(2))
    server.add_mdt("elm-MDT0001", action_line(3))
    done = server.run("--run-once")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("elm-MDT0000: 2 lines") and "2 NEW" in first
    assert second.startswith("elm-MDT0001: 1 lines") and "1 NEW" in second
    assert len(server.wait_events("elm-MDT0000", 2)) == 2

    assert "0 NEW" in server.run("--run-once").stdout
    server.remove_mdt("elm-MDT0001")
    assert server.run("--run-once").returncode == 0
    assert not (server.state_dir / "elm-MDT0001.sqlite3").exists()
    assert len(server.events("elm-MDT0001")) == 1


def test_run_once_without_an_mdt_says_so(server: MetadataServer) -> None:
    done = server.run("--run-once")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no MDT on this server" in done.stderr


def test_run_once_says_which_poll_failed(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.add_mdt("elm-MDT0001", action_line(1))
    server.redis.set("hsm:actions:elm-MDT0001", "not a stream")
    done = server.run("--run-once")
    assert done.returncode == 1
    assert done.stdout.startswith("elm-MDT0000: 1 lines")
    assert "elm-MDT0001: poll failed: " in done.stderr and "Traceback" not in done.stderr


def test_run_once_with_a_folder_that_cannot_be_read(server: MetadataServer) -> None:
    server.mdt_folder.rmdir()
    server.mdt_folder.symlink_to(server.mdt_folder)
    done = server.run("--run-once")
    assert done.returncode == 1
    assert f"cannot list {server.mdt_folder}" in done.stderr


def test_run_once_beside_a_running_shipper_names_its_pid(server: MetadataServer) -> None:
    server.start()
    refused = server.run("--run-once")
    assert refused.returncode == 3
    assert f"(pid {server.pid}," in refused.stderr and refused.stderr.count("\n") == 1


# --- status ---


def test_status_of_a_running_shipper(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1), action_line(2))
    server.add_mdt("elm-MDT0001")
    server.start()
    server.wait_running("elm-MDT0000", "elm-MDT0001")
    eventually(lambda: server.run("status").returncode == 0)
    shown = server.run("status")
    assert shown.returncode == 0
    header, _, first, second = shown.stdout.splitlines()
    columns = ["MDT", "worker", "last poll", "duration", "lines", "live", "shipped", "backlog", "last error"]
    assert [header.index(column) for column in columns] == sorted(header.index(column) for column in columns)
    assert first.split()[:2] == ["elm-MDT0000", "RUNNING"]
    assert first.split()[-5:] == ["2", "2", "2", "0", "-"]
    assert second.split()[-5:] == ["0", "0", "0", "0", "-"]

    told = json.loads(server.run("status", "--json").stdout)
    assert told["ok"] and told["running"] and told["troubles"] == []
    mdt = told["mdts"][0]
    assert (mdt["mdt"], mdt["worker"]["state"], mdt["stale"], mdt["present"]) == ("elm-MDT0000", "RUNNING", False, True)
    assert (mdt["poll"]["live"], mdt["poll"]["events_shipped"]) == (2, 2)


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


def test_status_tells_an_error_and_makes_it_harmless(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.run("--run-once")
    with sqlite3.connect(server.state_dir / "elm-MDT0000.sqlite3") as database:
        database.execute(
            "UPDATE poll_status SET last_error = ?, last_error_at = last_poll_at", ("\x1b[2J broken\nhere",)
        )
    database.close()
    shown = server.run("status")
    assert "\x1b" not in shown.stdout and r"\x1b[2J broken\nhere" in shown.stdout
    assert r"elm-MDT0000: last poll failed: \x1b[2J" in shown.stdout


def test_status_shows_stale_polls(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_running("elm-MDT0000")
    eventually(lambda: server.run("status").returncode == 0)
    worker = server.programs()["mdt-elm-MDT0000"]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        eventually(lambda: "(stale)" in server.run("status").stdout)
        shown = server.run("status")
        assert shown.returncode == 1
        assert "elm-MDT0000: no poll for a long time" in shown.stdout
    finally:
        os.kill(worker.pid, signal.SIGCONT)


@pytest.mark.parametrize("content", [b"no database " * 100, b""])
def test_status_with_a_broken_state_file(server: MetadataServer, content: bytes) -> None:
    server.add_mdt("elm-MDT0000")
    server.state_dir.mkdir()
    (server.state_dir / "elm-MDT0000.sqlite3").write_bytes(content)
    shown = server.run("status")
    assert shown.returncode == 2
    assert "elm-MDT0000: cannot read state file" in shown.stdout
    assert "elm-MDT0000  none      never" in shown.stdout


def test_status_while_discovery_is_stopped(server: MetadataServer) -> None:
    server.start()
    eventually(lambda: server.run("status").returncode == 0)
    server.supervisor._call("stopProcess", DISCOVERY)
    shown = server.run("status")
    assert shown.returncode == 1
    assert "discovery is STOPPED" in shown.stdout


def test_status_of_a_supervisord_that_hangs(server: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        shown = server.run("status")
        assert shown.returncode == 1
        assert "did not answer" in shown.stdout and "timed out" in shown.stdout
    finally:
        os.kill(server.pid, signal.SIGCONT)


# --- check ---


def findings(server: MetadataServer, subject: str, *, level: str = "") -> list[str]:
    """What `check` says on a subject, at one level or all."""
    told = json.loads(server.run("check", "--json").stdout)
    return [
        f"{finding['text']}; {finding['advice']}"
        for finding in told["findings"]
        if finding["subject"] == subject and level in ("", finding["level"])
    ]


@pytest.fixture
def good_server(private_server: PrivateServer) -> Iterator[MetadataServer]:
    """A metadata server on whose Redis nothing is to be found fault with."""
    server = MetadataServer(private_server(appendonly="yes").port)
    yield server
    server.close()


def test_check_with_all_in_place(good_server: MetadataServer) -> None:
    server = good_server
    server.add_mdt("elm-MDT0000", action_line(1))
    sysfs = server.root / "sys/fs/lustre/mdt/elm-MDT0000"
    (sysfs / "hsm").mkdir(parents=True)
    (sysfs / "hsm/grace_delay").write_text("60\n")
    (sysfs / "hsm_control").write_text("enabled\n")
    done = server.run("check")
    assert done.returncode == 0, done.stdout
    *lines, counts = done.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert counts == f"{len(lines)} ok, 0 warning, 0 problem"
    assert "coordinator enabled" in done.stdout and "poll_interval 0.5 s, grace_delay 60 s" in done.stdout
    assert "append-only file" in done.stdout and "not running" in done.stdout
    # It leaves nothing behind, anywhere.
    assert server.redis.dbsize() == 0
    assert not server.state_dir.exists() and not server.run_dir.exists()

    server.configure(poll_interval=31)
    done = server.run("check")
    assert done.returncode == 1
    assert "final statuses may be missed" in done.stdout


def test_check_tells_a_running_shipper(good_server: MetadataServer) -> None:
    good_server.add_mdt("elm-MDT0000")
    good_server.start()
    assert findings(good_server, "shipper") == [f"running (pid {good_server.pid}); "]


def test_check_of_a_bad_configuration(server: MetadataServer) -> None:
    server.configure(redis_prot=1)
    done = server.run("check")
    assert done.returncode == 2
    assert done.stdout.startswith("problem  configuration  ") and "'redis_port'" in done.stdout


def test_check_tells_warnings_of_the_configuration(good_server: MetadataServer) -> None:
    good_server.add_mdt("elm-MDT0000")
    good_server.configure(cache_path="/var/cache")
    assert good_server.run("check").returncode == 1
    assert "cache_path" in findings(good_server, "configuration", level="warning")[0]


def test_check_of_mdts_and_folders(good_server: MetadataServer) -> None:
    server = good_server
    assert "none on this server" in findings(server, "MDTs", level="warning")[0]
    actions = server.add_mdt("elm-MDT0000", b"something else\n")
    assert "holds no HSM actions" in findings(server, "elm-MDT0000", level="problem")[0]
    actions.unlink()
    actions.mkdir()
    assert "Is a directory" in findings(server, "elm-MDT0000", level="problem")[0]
    server.state_dir.write_text("in the way")
    server.configure(log_file=f"{server.root}/no/such/log")
    assert "is no folder" in findings(server, "state_dir", level="problem")[0]
    assert findings(server, "log_file", level="problem")
    assert server.run("check").returncode == 2


def test_check_without_redis() -> None:
    server = MetadataServer(free_port())
    try:
        done = server.run("check")
        assert done.returncode == 2
        assert "problem  Redis" in done.stdout and "cannot reach redis://127.0.0.1:" in done.stdout
    finally:
        server.close()


@pytest.mark.parametrize(
    ("options", "level", "text"),
    [
        ({"save": ""}, "warning", "a restart loses every event"),
        ({"save": "60 1000"}, "ok", "snapshots only (save 60 1000)"),
        ({"maxmemory": "50mb", "maxmemory_policy": "allkeys-lru"}, "problem", "whole streams are thrown away"),
        ({"maxmemory_policy": "allkeys-lfu"}, "warning", "whole streams are thrown away"),
        ({"maxmemory": "50mb", "maxmemory_policy": "volatile-ttl"}, "warning", "heartbeats and locks"),
        ({"maxmemory": "1mb"}, "problem", "of maxmemory is in use"),
        ({"replicaof": "127.0.0.1 1", "replica_serve_stale_data": "yes"}, "problem", "it is a replica of 127.0.0.1:1"),
        ({"requirepass": "secret"}, "problem", "refuses us"),
    ],
)
def test_check_of_redis(private_server: PrivateServer, options: dict[str, str], level: str, text: str) -> None:
    server = MetadataServer(private_server(**options).port)
    try:
        assert any(text in line for line in findings(server, "Redis", level=level)), findings(server, "Redis")
        assert server.run("check").returncode == (2 if level == "problem" else 1)
    finally:
        server.close()


def test_check_as_a_user_with_few_rights(good_server: MetadataServer, tmp_path: Path) -> None:
    server = good_server
    server.add_mdt("elm-MDT0000", action_line(1))
    password = tmp_path / "password"
    password.write_text("secret\n")
    server.configure(redis_username="shipper", redis_password_file=str(password))

    def allow(*rules: str) -> None:
        server.redis.execute_command("ACL", "SETUSER", "shipper", "on", ">secret", *rules)  # type: ignore[no-untyped-call]

    assert "refuses us" in findings(server, "Redis", level="problem")[0]

    # No INFO, no CONFIG, no scripts.
    allow("resetkeys", "~hsm:actions:*", "~{hsm:actions:*", "-@all", "+ping", "+@stream")
    assert "INFO is refused" in findings(server, "Redis", level="warning")[0]
    assert "a script that writes is refused" in findings(server, "Redis", level="problem")[0]
    # Scripts, but not for the keys beside the stream; not even a ping.
    allow("resetkeys", "~hsm:actions:*", "-@all", "+@scripting", "+@stream", "+exists", "+set", "+del")
    assert "{hsm:actions:elm-MDT0000}:*" in findings(server, "Redis", level="problem")[0]
    # Scripts, but nothing may be deleted: nothing is left behind.
    allow("resetkeys", "~hsm:actions:*", "~{hsm:actions:*", "-@all", "+@scripting", "+@stream", "+exists", "+set")
    assert findings(server, "Redis", level="problem")
    assert server.redis.dbsize() == 0
    # Streams, but not all of them.
    allow("+del", "-xrange")
    assert findings(server, "Redis", level="problem")
    assert server.redis.dbsize() == 0
    # What it needs, and INFO: only CONFIG is missing, and is not needed.
    allow("+xrange", "+info")
    assert findings(server, "Redis", level="problem") == findings(server, "Redis", level="warning") == []
    assert "secret" not in server.run("check").stdout


def test_check_leaves_a_stream_as_it_is(good_server: MetadataServer) -> None:
    good_server.add_mdt("elm-MDT0000", action_line(1))
    good_server.run("--run-once")
    before = good_server.redis.xinfo_stream("hsm:actions:elm-MDT0000", full=True)
    assert good_server.run("check").returncode == 0
    assert good_server.redis.xinfo_stream("hsm:actions:elm-MDT0000", full=True) == before
    assert good_server.redis.keys() == [b"hsm:actions:elm-MDT0000"]
