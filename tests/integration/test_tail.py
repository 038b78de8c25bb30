"""`hsm-stream-tail` as an installed command, on a real server."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from tests.conftest import PrivateServer
from tests.support.readings import MDT0, MDT1, event_data
from tests.support.servers import RedisServer, free_port, waiting_clients
from tests.support.tails import BANNER, COMMAND, ENVIRONMENT, read_line
from tests.support.waiting import DEADLINE_S, eventually

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def where(redis_server: RedisServer, redis_db: int) -> list[str]:
    return ["--host", redis_server.host, "--port", str(redis_server.port), "--db", str(redis_db), "--no-paths"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command with its output in pipes, or where `stdout` and `stderr` say."""
    started: list[subprocess.Popen[str]] = []

    def make(
        *options: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [COMMAND, *options], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True,
            cwd=tmp_path, env=ENVIRONMENT | environment,
        )  # fmt: skip
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()
        process.communicate()


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *options], capture_output=True, text=True, env=ENVIRONMENT | environment,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def append(client: redis.Redis, stream: str = MDT0, **changes: Any) -> str:
    entry_id = client.xadd(stream, {"data": msgspec.json.encode(event_data(3, **changes))})
    assert isinstance(entry_id, bytes)
    return entry_id.decode()


def test_run_once_prints_what_there_is_in_the_specs_form(client: redis.Redis, where: list[str]) -> None:
    first = append(client, MDT1, mdt="elm-MDT0001", action="RESTORE", status="STARTED")
    assert run("--run-once", *where).stdout == (
        f"2025-10-02 10:32:05 [elm-MDT0001] RESTORE  STARTED  -> [0x200000401:0x3:0x0] (id: {first})\n"
    )
    for n in range(2000):
        append(client, status=f"S{n}")
    done = run("--run-once", *where)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[4] for line in done.stdout.splitlines() if "MDT0000" in line] == [f"S{n}" for n in range(2000)]


def test_it_follows_line_by_line(client: redis.Redis, where: list[str], start: Start) -> None:
    append(client, status="OLD")
    tail = start(*where)
    eventually(lambda: waiting_clients(client))
    for n in range(3):  # each is there before the next is written: nothing stays in a buffer
        append(client, status=f"S{n}")
        assert f"ARCHIVE  S{n}" in read_line(tail)
    tail.send_signal(signal.SIGINT)
    out, err = tail.communicate(timeout=DEADLINE_S)
    assert (tail.returncode, out, err) == (130, "", BANNER)


def test_from_beginning_prints_what_was_before(client: redis.Redis, where: list[str], start: Start) -> None:
    append(client, status="OLD")
    tail = start("--from-beginning", *where)
    assert "OLD" in read_line(tail)
    append(client, status="LATER")
    assert "LATER" in read_line(tail)


def test_on_a_terminal_the_banner_is_the_first_line(where: list[str], start: Start) -> None:
    ours, theirs = pty.openpty()
    tail = start(*where, stdout=theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as screen:
        assert screen.read(len(BANNER) + 1).replace(b"\r", b"").decode() == BANNER
        tail.send_signal(signal.SIGINT)
        assert tail.wait(DEADLINE_S) == 130


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ([], ["new", "update", "other"]),
        (["--show", "PURGED"], ["new", "update", "purged", "other"]),
        (["--show", "purged,Refresh"], ["new", "update", "purged", "refresh", "other"]),
        (["--show=PURGED", "--show=REFRESH", "--hide=NEW", "--hide=update"], ["purged", "refresh", "other"]),
    ],
)
def test_event_types_are_shown_and_hidden(
    client: redis.Redis, where: list[str], options: list[str], seen: list[str]
) -> None:
    append(client, event_type="NEW", status="new")
    append(client, event_type="UPDATE", status="update")
    append(client, event_type="PURGED", status="purged")
    append(client, event_type="UPDATE", status="refresh", refresh=True)
    append(client, event_type="OTHER", status="other")
    done = run("--run-once", *options, *where)
    assert [line.split()[4] for line in done.stdout.splitlines()] == seen


def test_nothing_that_a_terminal_obeys_gets_out(client: redis.Redis, where: list[str]) -> None:
    evil = "\x1b]0;owned\x07\r\n\u202e\x9b"
    append(client, mdt=evil, fid=evil, action=evil, status=evil)
    client.xadd(MDT1, {"data": b'{"status": "\x1b[2J", "n": 1'})
    done = run("--run-once", *where)
    [line] = done.stdout.splitlines()
    assert line.isprintable() and line.count(r"\x1b]0;owned\x07\x0d\x0a\u202e\x9b") == 4
    assert "malformed" in done.stderr and done.stderr.rstrip("\n").isprintable()


def test_a_terminal_that_is_not_utf8_gets_escapes(client: redis.Redis, where: list[str]) -> None:
    append(client, status="fertig\N{SNOWMAN}")
    assert "fertig\\u2603" in run("--run-once", *where, PYTHONIOENCODING="latin-1").stdout


def test_a_closed_pipe_ends_it_quietly(client: redis.Redis, where: list[str], start: Start) -> None:
    append(client)
    tail = start("--from-beginning", *where)
    assert tail.stdout is not None and tail.stderr is not None
    read_line(tail)
    tail.stdout.close()
    append(client)
    assert tail.wait(DEADLINE_S) == 141
    assert tail.stderr.read() == BANNER


@pytest.mark.parametrize("socket_in_place_of_a_pipe", [False, True])
def test_it_ends_when_its_reader_does_although_nothing_happens(
    client: redis.Redis, where: list[str], start: Start, socket_in_place_of_a_pipe: bool
) -> None:
    append(client)
    ours, theirs = (end.detach() for end in socket.socketpair()) if socket_in_place_of_a_pipe else os.pipe()
    tail = start(*where, stdout=theirs)
    os.close(theirs)
    assert tail.stderr is not None
    assert tail.stderr.readline() == BANNER
    os.close(ours)
    assert tail.wait(DEADLINE_S) == 141
    assert tail.stderr.read() == ""


@pytest.mark.parametrize("reader_is_gone", [False, True])
def test_what_standard_error_does_not_take_changes_nothing(
    client: redis.Redis, where: list[str], start: Start, reader_is_gone: bool
) -> None:
    append(client)
    if reader_is_gone:
        reading, err = os.pipe()
        os.close(reading)
    else:
        err = os.open("/dev/full", os.O_WRONLY)
    tail = start("--from-beginning", *where, stderr=err)
    os.close(err)
    assert "ARCHIVE" in read_line(tail)
    append(client, status="LATER")
    assert "LATER" in read_line(tail)


def test_a_full_disk_is_one_clear_line(client: redis.Redis, where: list[str], start: Start) -> None:
    append(client)
    with Path("/dev/full").open("w") as full:
        tail = start("--run-once", *where, stdout=full.fileno())
        assert tail.wait(DEADLINE_S) == 1
    assert tail.stderr is not None
    assert tail.stderr.read() == (
        "hsm-stream-tail: cannot write to standard output: No space left on device; make room, or send it elsewhere\n"
    )


def test_redis_down_at_the_start_is_said_and_waited_for(private_server: PrivateServer, start: Start) -> None:
    server = private_server()
    server.stop()
    tail = start("--host", server.host, "--port", str(server.port), "--db", "0", "--from-beginning")
    assert tail.stderr is not None
    assert tail.stderr.readline() == BANNER
    assert f"hsm-stream-tail: no answer from Redis at redis://127.0.0.1:{server.port}/0 (" in tail.stderr.readline()
    server.start()
    append(server.client(), status="HERE")
    assert "HERE" in read_line(tail)
    tail.send_signal(signal.SIGINT)
    _, err = tail.communicate(timeout=DEADLINE_S)
    assert "is back after" in err and "Traceback" not in err


def test_run_once_without_redis_fails_in_one_line() -> None:
    port = str(free_port())
    done = run("--run-once", "--host", "127.0.0.1", "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"hsm-stream-tail: no answer from Redis at redis://127.0.0.1:{port}/1: ")
    assert line.endswith("; check the address, and that the server is running")


def test_a_wrong_password_fails_in_one_line(private_server: PrivateServer) -> None:
    server = private_server(requirepass="s3cret")
    done = run("--redis-url", f"redis://:wr0ng@127.0.0.1:{server.port}/0")
    assert done.returncode == 1
    [banner, line] = done.stderr.splitlines(keepends=True)
    assert banner == BANNER and "password" in line and "wr0ng" not in line
    assert run("--run-once", "--redis-url", f"redis://:s3cret@127.0.0.1:{server.port}/0").returncode == 0


def test_ctrl_c_while_it_waits_for_redis(start: Start) -> None:
    tail = start("--host", "127.0.0.1", "--port", str(free_port()))
    assert tail.stderr is not None
    tail.stderr.readline()
    assert "no answer" in tail.stderr.readline()
    tail.send_signal(signal.SIGINT)
    assert tail.wait(DEADLINE_S) == 130
    assert tail.stderr.read() == ""


def test_options_win_over_the_environment_and_that_over_the_file(
    client: redis.Redis, redis_server: RedisServer, redis_db: int, tmp_path: Path
) -> None:
    append(client, "a.b:elm-MDT0000", status="HERE")
    config = tmp_path / "tail.yaml"
    config.write_text(f"redis_host: nowhere.invalid\nredis_port: 1\nredis_db: {redis_db}\nredis_stream_prefix: other\n")
    environment = {"HSM_REDIS_PORT": str(redis_server.port), "HSM_REDIS_STREAM_PREFIX": "another"}
    options = ["--run-once", "--no-paths", "-c", str(config), "--host", redis_server.host, "--stream-prefix", "a.b"]
    done = run(*options, **environment)
    assert "HERE" in done.stdout and done.stderr == ""
    done = run(*options, HSM_REDIS_PORTT="1", **environment)
    assert "HERE" in done.stdout
    assert done.stderr.startswith("hsm-stream-tail: warning: environment variable HSM_REDIS_PORTT is no")


def test_a_unix_socket(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server(unixsocket=str(tmp_path / "s"))
    append(server.client(), status="HERE")
    assert "HERE" in run("--run-once", "--redis-url", f"unix://{tmp_path}/s?db=0").stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--port", "0"], "argument --port: '0' is no whole number from 1 to 65535"),
        (["--db", "one"], "argument --db: 'one' is no whole number"),
        (["--show", "OLD"], "argument --show: 'OLD' is none of NEW, UPDATE, PURGED, REFRESH"),
        (["--show", "STARTED"], "argument --show: 'STARTED' is none of NEW, UPDATE, PURGED, REFRESH"),
        (
            ["--hide", "NEW", "LATE"],
            "argument --hide: 'LATE' is none of NEW, UPDATE, PURGED, REFRESH, WAITING",
        ),
        (
            ["--log-level", "INFO"],
            "--log-level is an option of earlier releases: what is wrong is said on standard error",
        ),
        (
            ["--log-file=/tmp/x"],
            "--log-file is an option of earlier releases: what is wrong is said on standard error",
        ),
        (["--mountpoint", "/nowhere"], "--mount '/nowhere': no Lustre file system is mounted there"),
        (["--show", "PURGED", "--hide", "purged"], "PURGED is both in --show and in --hide; leave it out of one"),
        (["--stream-prefix", "hsm:*"], "stream prefix 'hsm:*' cannot be used; use letters"),
        (["--redis-url", "http://x"], "redis_url: http://x cannot be used"),
        (["--redis-url", "redis://x", "--db", "2"], "--redis-url names the server already; leave --host"),
        (["-c", "/nowhere.yaml"], "cannot read configuration /nowhere.yaml: No such file or directory"),
        (["--follow", "--run-once"], "--run-once and --follow contradict each other; leave one of them out"),
        (["--since", "2h", "-n", "3"], "--since and -n contradict each other; leave one of them out"),
        (["--from-beginning", "--since", "2h"], "--from-beginning and --since contradict each other"),
        (["--run-once", "-n", "3"], "--run-once and -n contradict each other"),
        (["--since", "5"], "--since '5' has no unit; give a duration (90s, 30m, 2h, 1d, 1w), a local time"),
        (["-n", "-1"], "argument -n/--lines: '-1' is no whole number from 0 to 10000000"),
        (["--json", "--format", "x"], "argument --format: not allowed with argument --json"),
        (["--format", "{size}"], "--format: there is no field {size}; there are time, timestamp, mdt, event, action"),
        (["--color", "blue"], "argument --color: invalid choice: 'blue'"),
        (["--mdt", ","], "argument --mdt: ',' names nothing"),
        (["--path", "/x", "--no-paths"], "--path needs the paths that --no-paths leaves out; leave one of them out"),
        (["--mount", "/x", "--no-paths"], "--mount is of no use with --no-paths; leave one of them out"),
        (["--mount", "/nowhere"], "--mount '/nowhere': no Lustre file system is mounted there; give the mount point"),
        (["--path-wait", "-1"], "argument --path-wait: '-1' is no number of seconds from 0 to 3600"),
        (["--path-wait", "nan"], "argument --path-wait: 'nan' is no number of seconds from 0 to 3600"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(options: list[str], complaint: str) -> None:
    done = run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("hsm-stream-tail: ") and complaint in last
    assert "Traceback" not in done.stderr


def test_a_configured_url_is_not_half_overridden(
    client: redis.Redis, redis_server: RedisServer, redis_db: int, where: list[str]
) -> None:
    append(client, status="HERE")
    url = f"{redis_server.url}/{redis_db}"
    assert "HERE" in run("--run-once", HSM_REDIS_URL=url).stdout
    assert "HERE" in run("--run-once", *where, HSM_REDIS_URL="redis://nowhere.invalid").stdout
    done = run("--run-once", "--db", "3", HSM_REDIS_URL=url)
    assert done.returncode == 2 and "--port and --db do not change the configured redis_url" in done.stderr


def test_help_is_complete_and_needs_no_heavy_import() -> None:
    script = "import sys\nfrom hsm_tools import tail\ntry: tail.main(['--help'])\nexcept SystemExit as end:"
    script += " sys.exit(end.code or sorted({'redis', 'msgspec', 'yaml'} & {*sys.modules}) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--redis-url", "--run-once", "exit codes:", "examples:", "REFRESH", "HSM_REDIS_HOST"):
        assert word in done.stdout
