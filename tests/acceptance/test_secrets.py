"""A password of Redis, wherever it stands in the configuration, is in nothing that is printed, logged or stored."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.supervision.run_folder import CONFIG_FILE
from tests.acceptance.test_check import findings
from tests.conftest import PrivateServer
from tests.support.servers import RedisServer, free_port
from tests.support.shipper import COMMAND, MetadataServer, action_line, clean_environment
from tests.support.site import MDT
from tests.support.waiting import eventually

SECRET = "s3cr3t"
TOOLS = (
    ("hsm-stream-tail", "--run-once", "--no-paths"),
    ("hsm-action-top", "--run-once"),
    ("hsm-stream-stats",),
    ("hsm-stream-reconciler",),
)
# Of a server that wants a password: all but the last are wrong, or cannot be used.
URLS = (
    "redis://me:{secret}@{host}/0",
    "redis://:{secret}@{host}/0",
    "redis://{host}/0?username=me&password={secret}",
    "redis://{host}/0?username=me&password={secret}&{secret}=1",
    "rediss://me:{secret}@{host}/0?ssl_password={secret}&socket_timeout=1",
    "redis://me:a/{secret}@{host}/0",
    "redis://me:{secret}@{host}x/0",
    "http://me:{secret}@{host}/0",
    "redis://me:{secret}@127.0.0.1:{closed}/0",
    "redis://right:{secret}@{host}/0",
)


@pytest.fixture
def guarded(private_server: PrivateServer) -> RedisServer:
    """A server that lets nobody in but `right`, who may not do much."""
    server = private_server()
    admin = server.client()
    rights = ["+@stream", "+select"]
    admin.acl_setuser("right", enabled=True, passwords=f"+{SECRET}", keys=["hsm:actions:*"], commands=rights)
    admin.acl_setuser("default", enabled=False)
    return server


@pytest.fixture
def server(guarded: RedisServer) -> Iterator[MetadataServer]:
    """A metadata server that is to ship there."""
    server = MetadataServer(guarded.port)
    server.add_mdt(MDT, action_line(1))
    yield server
    server.close()


def told(server: MetadataServer, *command: str) -> str:
    """What a command of the project prints with the configuration of `server`."""
    program = str(COMMAND.with_name(command[0]))
    done = subprocess.run(
        [program, "-c", str(server.config), *command[1:]],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def written(server: MetadataServer) -> dict[str, bytes]:
    """Every file of the shipper but the one that its programs are configured by."""
    folders = (server.state_dir, server.run_dir)
    files = [server.log, *(path for folder in folders for path in folder.rglob("*"))]
    return {str(path): path.read_bytes() for path in files if path.is_file() and path.name != CONFIG_FILE}


@pytest.mark.parametrize(
    # Ways that differ in how a URL is taken apart only, which `tests/unit/test_address_secrets.py` looks at as well.
    "url",
    [*URLS[2:5], *URLS[7:], *(pytest.param(url, marks=pytest.mark.soak) for url in (*URLS[:2], *URLS[5:7]))],
)
def test_no_command_shows_it(guarded: RedisServer, server: MetadataServer, url: str) -> None:
    host = f"127.0.0.1:{guarded.port}"
    server.configure(redis_url=url.format(secret=SECRET, host=host, closed=free_port()))
    commands = [
        ("hsm-action-shipper", *arguments)
        for arguments in (("--run-once", "--maintenance-now"), ("check",), ("check", "--json"), ("status", "--json"))
    ]
    for command in (*commands, *TOOLS):
        text = told(server, *command)
        assert text and SECRET not in text, (command, text)
    assert not [name for name, content in written(server).items() if SECRET.encode() in content]


@pytest.mark.parametrize("tool", ["hsm-action-shipper", *dict.fromkeys(command[0] for command in TOOLS)])
def test_an_argument_in_the_wrong_place_does_not_show_it(tool: str) -> None:
    for arguments in ((f"--redis_url=redis://:{SECRET}@h/1",), (f"redis://h/1?password={SECRET}",)):
        command = [str(COMMAND.with_name(tool)), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("url", [URLS[2], URLS[8], URLS[9]])
def test_no_log_and_no_state_file_holds_it(guarded: RedisServer, server: MetadataServer, url: str) -> None:
    host = f"127.0.0.1:{guarded.port}"
    server.configure(
        redis_url=url.format(secret=SECRET, host=host, closed=free_port()), poll_interval=0.1, log_level="DEBUG"
    )
    server.start()
    eventually(lambda: b"cannot" in server.log.read_bytes(), 60.0)
    eventually(lambda: list(server.state_dir.glob("*.sqlite3")), 60.0)
    done = server.run("maintain")
    assert SECRET not in done.stdout + done.stderr + server.run("status").stdout
    files = written(server)
    assert {Path(name).name for name in files} >= {"log", f"{MDT}.sqlite3", "maintenance.sqlite3"}
    assert not [name for name, content in files.items() if SECRET.encode() in content]
    assert (server.run_dir / CONFIG_FILE).stat().st_mode & 0o777 == 0o600
    assert server.stop() == 0
    assert not [name for name, content in written(server).items() if SECRET.encode() in content]


def others_may_read(server: MetadataServer, subject: str) -> list[str]:
    """What `check` warns of."""
    return [line for line in findings(server, subject, level="warning") if "other users may read" in line]


def test_check_warns_of_files_that_others_may_read(server: MetadataServer) -> None:
    names = ("password", "key.pem", "key.password", "sentinel.password", "shipper.log")
    password, key, key_password, sentinel, log = (server.root / name for name in names)
    for path in (password, key, key_password, sentinel, log):
        path.write_text(SECRET)
        path.chmod(0o644)
    server.configure(
        redis_url=f"rediss+sentinel://:{SECRET}@h/hsm?ssl_certfile={key}&ssl_keyfile={key}",
        redis_password_file=str(password),
        redis_tls_cert_file=str(key),
        redis_tls_key_file=str(key),
        redis_tls_key_password_file=str(key_password),
        redis_sentinel_password_file=str(sentinel),
        log_file=str(log),
    )
    server.config.chmod(0o644)
    wanted = {
        "configuration": server.config,
        "redis_password_file": password,
        "redis_sentinel_password_file": sentinel,
        "redis_tls_key_password_file": key_password,
        "log_file": log,
    }
    subjects = ("ssl_keyfile", "redis_tls_key_file", *wanted)
    for subject in subjects:  # the folder is its owner's alone
        assert not others_may_read(server, subject)
    server.root.chmod(0o755)
    assert others_may_read(server, "ssl_keyfile") == others_may_read(server, "redis_tls_key_file") != []
    for subject, path in wanted.items():
        [line] = others_may_read(server, subject)
        assert line.startswith(f"{path}: ") and line.endswith(f"; chmod o= {path}")
        path.chmod(0o640)
        assert not others_may_read(server, subject)
    assert SECRET not in told(server, "hsm-action-shipper", "check")


def test_a_new_log_is_not_for_others(server: MetadataServer) -> None:
    log = server.root / "shipper.log"
    server.configure(log_file=str(log))
    server.start()
    assert log.stat().st_mode & 0o007 == 0
    assert server.stop() == 0
