"""Consumers as a user that is nobody: tools and readers that may read their streams, and nothing else on the host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import MakeServer
from tests.conftest import PrivateServer
from tests.support.hostile import obeyed
from tests.support.shipper import COMMAND, action_line, clean_environment
from tests.support.site import MDT, SimulatedServer
from tests.support.waiting import DEADLINE_S

NOBODY = 65_534
PASSWORD = "word"
PERMISSIONS = Path(__file__).parents[2] / "docs/permissions.md"
CONSUMER = """
import sys
from hsm_tools.consumer import StreamReader
from hsm_tools.live_view import LiveView
where = dict(host="127.0.0.1", port=int(sys.argv[1]), db=0, username="hsm-reader", password=sys.argv[2])
with StreamReader(**where) as reader:
    print([event.data["status"] for event in reader.history()])
with LiveView(**where) as view:
    view.refresh()
    print(len(view))
with StreamReader(**where) as reader, reader.group("g") as group:
    next(group.events(block_ms=1))
"""


def as_nobody(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without a home, in a folder that is not his."""
    return subprocess.run(
        command, env=clean_environment() | {"HOME": "/nonexistent"} | environ, cwd="/", user=NOBODY, group=NOBODY,
        extra_groups=(), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


@pytest.fixture
def site(make_server: MakeServer, private_server: PrivateServer) -> SimulatedServer:
    """A server that has polled, and whose Redis lets in but the two users of the documentation."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    if as_nobody(sys.executable, "-c", "import hsm_tools").returncode:
        pytest.skip("this installation is in a folder that other users may not enter")
    redis_server = private_server()
    server = make_server(redis=redis_server)
    server.add_mdt(MDT, action_line(1), action_line(2, "STARTED"))
    admin = redis_server.client()
    for line in re.findall(r"^ACL SETUSER (.*)$", PERMISSIONS.read_text(), re.MULTILINE):
        rules = line.replace("PASSWORD", PASSWORD).split()
        assert admin.execute_command("ACL", "SETUSER", *rules)  # type: ignore[no-untyped-call]
    password = server.root / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    server.configure(redis_username="hsm-shipper", redis_password_file=str(password))
    assert server.run("--run-once").returncode == 0
    assert admin.acl_setuser("default", enabled=False)
    return server


@pytest.fixture
def keys(site: SimulatedServer) -> dict[str, str]:
    """What a consumer is configured by: a password of its own, in a file that only it reads."""
    site.root.chmod(0o711)
    folder = site.root / "nobody"
    folder.mkdir(mode=0o700)
    password = folder / "password"
    password.write_text(PASSWORD)
    for path in (password, folder):
        os.chown(path, NOBODY, NOBODY)
    return {
        "HSM_REDIS_HOST": "127.0.0.1", "HSM_REDIS_PORT": str(site.keys["redis_port"]), "HSM_REDIS_DB": "0",
        "HSM_REDIS_USERNAME": "hsm-reader", "HSM_REDIS_PASSWORD_FILE": str(password),
    }  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ("hsm-stream-tail", "-n", "10", "--no-follow", "--no-paths"),
        ("hsm-action-top", "--run-once"),
        ("hsm-stream-stats",),
        ("hsm-stream-reconciler", "--state-dir", "/nonexistent"),
    ],
    ids=lambda command: command[0],
)
def test_tools(keys: dict[str, str], command: tuple[str, ...]) -> None:
    done = as_nobody(str(COMMAND.with_name(command[0])), *command[1:], **keys)
    assert done.returncode == 0, done.stderr
    assert MDT in done.stdout


def test_a_consumer(site: SimulatedServer) -> None:
    done = as_nobody(sys.executable, "-c", CONSUMER, str(site.keys["redis_port"]), PASSWORD)
    assert done.stdout == "['WAITING', 'STARTED']\n2\n"
    assert done.returncode == 1 and "allow this Redis user +xgroup" in done.stderr  # it may read, and no more


OF_THE_SHIPPER = (("status",), ("status", "--json"), ("check",), ("--run-once",), ("--daemon",), ("maintain",))


@pytest.mark.parametrize("command", OF_THE_SHIPPER, ids=" ".join)
def test_the_shipper_says_what_it_may_not(site: SimulatedServer, command: tuple[str, ...]) -> None:
    """Its configuration, and then its folders, are closed to him."""
    done = as_nobody(str(COMMAND), "-c", str(site.config), *command)
    assert done.returncode in (1, 2) and "Permission denied" in done.stdout + done.stderr
    config = Path("/tmp", f"{site.root.name}.yaml")
    config.write_bytes(site.config.read_bytes())
    config.chmod(0o644)
    done = as_nobody(str(COMMAND), "-c", str(config), *command)
    config.unlink()
    told = done.stdout + done.stderr
    assert done.returncode in (1, 2) and "Traceback" not in told and obeyed(told) == ""
    assert "ermission denied" in told or "cannot" in told
