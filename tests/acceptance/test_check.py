"""`hsm-action-shipper check`: what it finds fault with, and that it leaves everything as it is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PrivateServer
from tests.support.servers import free_port
from tests.support.shipper import COMMAND, MetadataServer, action_line, clean_environment


def findings(server: MetadataServer, subject: str, *, level: str = "") -> list[str]:
    """What `check` says on a subject, at one level or all."""
    told = json.loads(server.run("check", "--json").stdout)
    return [
        f"{finding['text']}; {finding['advice']}"
        for finding in told["findings"]
        if finding["subject"] == subject and level in ("", finding["level"])
    ]


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


def test_check_counts_the_lines_that_are_not_understood(good_server: MetadataServer) -> None:
    server = good_server
    strange = b"lrh=[type=10680000 len=136 idx=1/9000] colour=\x1b[31mred\n"
    repeated = action_line(3, "STARTED")
    lines = [action_line(rec) for rec in range(1, 3000)]
    actions = server.add_mdt("elm-MDT0000", *lines)
    assert f"{actions} is readable (2,999 lines, first read" in findings(server, "elm-MDT0000", level="ok")[0]
    actions.write_bytes(b"".join([*lines, strange, repeated]))
    (told,) = findings(server, "elm-MDT0000", level="warning")
    assert told.startswith(f"2 of 3,001 lines of {actions} are not understood, and not shipped, the first: lrh=[type=1")
    assert "please send us the line" in told
    done = server.run("check")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout and r"colour=\x1b[31mred" in done.stdout
    actions.write_bytes(b"".join([*lines, strange.rstrip(b"\n")]))
    assert "its last line has no newline" in findings(server, "elm-MDT0000", level="problem")[0]


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
        ({"maxmemory": "512kb"}, "problem", "of maxmemory is in use"),
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


@pytest.mark.parametrize(
    ("node_bytes", "node_entries", "advised"),
    [("4096", "100", True), ("16384", "100", False), ("65536", "100", True), ("65536", "0", False), ("0", "100", True)],
)
def test_check_tells_how_streams_need_less_memory(
    private_server: PrivateServer, node_bytes: str, node_entries: str, advised: bool
) -> None:
    options = {"stream_node_max_bytes": node_bytes, "stream_node_max_entries": node_entries, "appendonly": "yes"}
    server = MetadataServer(private_server(**options).port)
    server.add_mdt("elm-MDT0000", action_line(1))
    try:
        [told] = [line for line in findings(server, "Redis", level="ok") if "stream-node" in line]
        assert told.startswith(f"stream-node-max-bytes {node_bytes}; ")
        assert ("`stream-node-max-bytes 16384`" in told) == advised
        assert server.run("check").returncode == 0, "it is no more than advice"
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


def test_check_looks_at_the_stream_of_each_mdt(good_server: MetadataServer) -> None:
    for mdt in ("elm-MDT0000", "elm-MDT0001", "elm-MDT0002"):
        good_server.add_mdt(mdt, action_line(1))
    good_server.redis.set("hsm:actions:elm-MDT0001", "somebody's")
    assert good_server.run("check").returncode == 2
    [told] = findings(good_server, "elm-MDT0001", level="problem")
    assert "hsm:actions:elm-MDT0001 cannot be looked at: WRONGTYPE" in told and "the key is no stream" in told
    assert findings(good_server, "elm-MDT0002", level="problem") == []


@pytest.mark.parametrize("control", ["stopped", "disabled"])
def test_check_remarks_a_coordinator_that_does_nothing(good_server: MetadataServer, control: str) -> None:
    good_server.add_mdt("elm-MDT0000", action_line(1))
    folder = good_server.root / "sys/fs/lustre/mdt/elm-MDT0000"
    folder.mkdir(parents=True)
    (folder / "hsm_control").write_text(f"{control}\n")
    (told,) = findings(good_server, "elm-MDT0000", level="warning")
    assert told.startswith(f"the coordinator is {control}: ") and "mdt.elm-MDT0000.hsm_control=enabled" in told
    assert good_server.run("check").returncode == 1


def test_polls_that_take_longer_than_the_interval_are_told(good_server: MetadataServer) -> None:
    server = good_server
    server.add_mdt("elm-MDT0000", action_line(1))
    assert server.run("--run-once").returncode == 0
    assert findings(server, "elm-MDT0000", level="warning") == []
    server.configure(poll_interval=0.001)
    (told,) = findings(server, "elm-MDT0000", level="warning")
    assert "longer than poll_interval (0.001 s)" in told and "reading 1 lines" in told
    assert "s of it the kernel's, to give the list), longer than poll_interval: fewer" in server.run("status").stdout


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give up its rights over all files")
@pytest.mark.parametrize("closed", ["state file", "state_dir", "-shm of the state file"])
def test_a_state_file_that_we_may_not_read_is_not_called_broken(server: MetadataServer, closed: str) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    assert server.run("--run-once").returncode == 0
    server.configure(log_file=str(server.state_dir / "log"))
    state = server.state_dir / "elm-MDT0000.sqlite3"
    mode = {"state file": 0o200, "state_dir": 0o000, "-shm of the state file": 0o500}[closed]
    (state if closed == "state file" else server.state_dir).chmod(mode)
    for command in ("status", "check"):
        ours = [str(COMMAND), "-c", str(server.config), command]
        done = subprocess.run(
            ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *ours],
            env=clean_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert "; run this as the user that runs the shipper" in done.stdout
        assert "the worker rebuilds a broken one" not in done.stdout
    server.state_dir.chmod(0o700)
    state.write_bytes(b"no database " * 100)
    assert "the worker rebuilds a broken one" in server.run("check").stdout
