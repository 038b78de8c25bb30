"""Every command line in README, docs/maintenance.md and docs/state.md runs as it stands there, beside a shipper.

Only paths, the number of the database and the name MDT are put in their place; what is configured comes by the
environment. The other documents' commands are run by tests of their own (`test_tail_docs.py` and the like).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import SimulatedMdt, populate
from tests.support.servers import RedisServer
from tests.support.shipper import clean_environment
from tests.support.site import SimulatedServer
from tests.support.waiting import DEADLINE_S, eventually

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "docs/maintenance.md", "docs/state.md"]
PROGRAMS = ("hsm-", "redis-cli", "sqlite3", "supervisorctl", "make", "python3.11", "mkdir", "/opt/hsm-shipper/bin/pip")
NOT_RUN = {
    "make demo": "test_demo.py runs it",
    "make test": "runs this",
    "make bench": "minutes",
    "make soak": "minutes",
    "make docs": "a step of CI; installs what builds the site",
    "python3.11 -m venv /opt/hsm-shipper": "installs on the machine",
    "/opt/hsm-shipper/bin/pip install lustre-hsm-action-stream": "installs on the machine",
    "mkdir -p /etc/hsm-shipper && cp /opt/hsm-shipper/share/hsm-shipper/hsm-shipper.yaml /etc/hsm-shipper/": "the same",
    "make packages": "tests/packages install what it makes",
    "hsm-action-shipper": "is running all the while",
    "hsm-action-top": "needs a terminal: test_top_terminal.py gives it one",
    "hsm-action-tools": "a package",
    "sqlite3": "a name",
    "supervisorctl": "a name",
}
# What else a command may end with, and why.
EXIT_CODES = {
    "hsm-action-shipper check": {0, 1},  # a test's Redis keeps nothing on disk, which is no `ok`
    "hsm-action-shipper --run-once": {3},  # a shipper is running already
    "hsm-stream-reconciler --retire": {2},  # the MDT is here
}
FOLLOWS = ("hsm-stream-tail", "hsm-stream-stats --listen")
ENDS = ("--run-once", "--no-follow")


def commands(document: str) -> list[str]:
    """The command lines of a document: in `sh` blocks, indented, and in backquotes; without their comments."""
    text = (ROOT / document).read_text()
    fenced = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    indented = re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [re.sub(r"\s+#.*", "", line).strip() for line in fenced + indented] + quoted
    return [line for line in dict.fromkeys(found) if line.startswith(PROGRAMS) and line not in NOT_RUN]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    """A metadata server with two MDTs whose shipper runs."""
    redis = RedisServer(tmp_path_factory.mktemp("redis")).start()
    server = SimulatedServer(redis, 0, poll_interval=5)  # longer than a poll on a busy machine, which `status` tells
    for name in ("elm-MDT0000", "elm-MDT0001"):
        mdt = SimulatedMdt(name)
        populate(mdt, 20)
        mdt.mount(server.mds)
    server.start()
    eventually(lambda: len(server.redis.keys("*heartbeat")) == 2)
    # To supervisord a program is STARTING for its first second.
    eventually(lambda: server.run("status").returncode == 0)
    yield server
    server.close()
    redis.kill()


@pytest.mark.parametrize("line", [(document, line) for document in DOCUMENTS for line in commands(document)], ids=str)
def test_every_documented_command_runs(server: SimulatedServer, line: tuple[str, str]) -> None:
    command = line[1]
    program = command.split()[0]
    if program in ("redis-cli", "sqlite3") and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    follows = command.startswith(FOLLOWS) and not any(option in command for option in ENDS)
    allowed = next((codes for start, codes in EXIT_CODES.items() if command.startswith(start)), {0})
    process = subprocess.Popen(
        ["bash", "-c", f"exec {in_place(command, server)}" if follows else in_place(command, server)],
        env=environment(server),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    if follows:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert first, "it said nothing"
        allowed = {0, 130}
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in allowed, said
    assert "Traceback" not in said


def in_place(command: str, server: SimulatedServer) -> str:
    """The command for this server."""
    command = re.sub(r"\bMDT\b", "elm-MDT0000", command)
    command = command.replace("redis-cli -n 1", f"redis-cli -p {server.redis.get_connection_kwargs()['port']} -n 0")
    command = command.replace("/var/lib/hsm-shipper", str(server.state_dir)).replace("--listen :9879", "--listen :0")
    command = command.replace("/var/lib/prometheus/node-exporter", str(server.state_dir))
    return command.replace("/run/hsm-shipper", str(server.run_dir))


def environment(server: SimulatedServer) -> dict[str, str]:
    """The server's configuration, and the installed commands first."""
    keys = {f"HSM_{key.upper()}": str(value) for key, value in server.keys.items()}
    return clean_environment() | keys | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_there_are_commands_to_run() -> None:
    assert {document: len(commands(document)) > 0 for document in DOCUMENTS} == dict.fromkeys(DOCUMENTS, True)


def test_nothing_is_left_out_that_no_document_names() -> None:
    text = "".join((ROOT / document).read_text() for document in DOCUMENTS)
    assert {command for command in NOT_RUN if command not in text} == set()
