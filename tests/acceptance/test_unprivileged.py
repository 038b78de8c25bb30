"""Consumers as a user that is nobody: tools and readers that may read their streams, and nothing else on the host."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.acceptance.conftest import MakeServer
from tests.conftest import PrivateServer
from tests.support.hostile import obeyed
from tests.support.shipper import action_line, clean_environment
from tests.support.site import MDT, SimulatedServer
from tests.support.waiting import DEADLINE_S

NOBODY = 65_534
PASSWORD = "word"
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


ROOT = Path(__file__).parents[2]
# The first may be in a folder that only its user may enter.
INTERPRETERS = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
LIBRARIES = {"PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}", "HOME": "/nonexistent"}


def as_nobody(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user without a home, in a folder that is not his."""
    for interpreter in INTERPRETERS:
        with contextlib.suppress(OSError):
            return subprocess.run(
                (interpreter, *arguments), env=clean_environment() | LIBRARIES | environ, cwd="/", user=NOBODY,
                group=NOBODY, extra_groups=(), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
            )  # fmt: skip
    pytest.skip(f"no Python that other users may run: {' '.join(INTERPRETERS)}")


def command(module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project as nobody."""
    begin = f"import sys; from {module} import main; sys.exit(main(sys.argv[1:]))"
    return as_nobody("-c", begin, *arguments, **environ)


@pytest.fixture
def site(make_server: MakeServer, private_server: PrivateServer) -> SimulatedServer:
    """A server that has polled, and whose Redis lets in but the two users of the documentation."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    if as_nobody("-c", "import hsm_tools.tail, redis").returncode:
        pytest.skip("other users may not use this installation")
    redis_server = private_server()
    server = make_server(redis=redis_server)
    server.add_mdt(MDT, action_line(1), action_line(2, "STARTED"))
    admin = redis_server.client()
    for line in re.findall(r"^ACL SETUSER (.*)$", (ROOT / "docs/permissions.md").read_text(), re.MULTILINE):
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
    "arguments",
    [
        ("hsm_tools.tail", "-n", "10", "--no-follow", "--no-paths"),
        ("hsm_tools.top", "--run-once"),
        ("hsm_tools.stats",),
        ("hsm_tools.reconciler",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_tools(keys: dict[str, str], arguments: tuple[str, ...]) -> None:
    done = command(*arguments, **keys)
    # Whether a stream is true is known where the MDT is.
    assert done.returncode == (2 if arguments == ("hsm_tools.reconciler",) else 0), done.stderr
    assert MDT in done.stdout


def test_a_consumer(site: SimulatedServer) -> None:
    done = as_nobody("-c", CONSUMER, str(site.keys["redis_port"]), PASSWORD)
    assert done.stdout == "['WAITING', 'STARTED']\n2\n"
    assert done.returncode == 1 and "allow this Redis user +x" in done.stderr  # it may read, and no more


OF_THE_SHIPPER = (("status",), ("status", "--json"), ("check",), ("--run-once",), ("--daemon",), ("maintain",))


@pytest.mark.parametrize("arguments", OF_THE_SHIPPER, ids=" ".join)
def test_the_shipper_says_what_it_may_not(site: SimulatedServer, arguments: tuple[str, ...]) -> None:
    """Its configuration, and then its folders, are closed to him."""
    done = command("hsm_shipper.cli", "-c", str(site.config), *arguments)
    assert done.returncode in (1, 2) and "Permission denied" in done.stdout + done.stderr
    config = Path("/tmp", f"{site.root.name}.yaml")
    config.write_bytes(site.config.read_bytes())
    config.chmod(0o644)
    done = command("hsm_shipper.cli", "-c", str(config), *arguments)
    config.unlink()
    told = done.stdout + done.stderr
    assert done.returncode in (1, 2) and "Traceback" not in told and obeyed(told) == ""
    assert re.search("ermission denied|cannot|not allowed", told)
