"""What others see of a shipper that runs: no password in any process, and nothing of its files, whatever the umask."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.supervision.launch import SUPERVISORD_CONF
from hsm_shipper.supervision.run_folder import CONFIG_FILE, PID_FILE
from hsm_shipper.supervision.supervisord import ProgramFiles, socket_path
from tests.acceptance.conftest import MakeServer
from tests.acceptance.test_check import findings
from tests.support.lustre import World
from tests.support.shipper import COMMAND, MetadataServer, action_line, clean_environment
from tests.support.site import MDT, SimulatedServer
from tests.support.tail_paths import PATHS
from tests.support.waiting import DEADLINE_S, eventually

SECRET = "q8Zk2vXw9T"


def family(pid: int) -> list[Path]:
    """The process and all that descend from it, as folders of /proc."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [Path(f"/proc/{each}") for each in sorted(found)]


def shown(process: Path) -> bytes:
    """What anybody who may look sees of a process."""
    try:
        return (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    except OSError:
        return b""


def has_no_core(process: Path) -> bool:
    """Whether the kernel is to write no memory to disk."""
    limits = (process / "limits").read_text().splitlines()
    return next(line.split()[4] for line in limits if line.startswith("Max core file size")) == "0"


def secret_keys(server: MetadataServer) -> dict[str, str]:
    """The configuration in the environment, its password too: a server that wants none takes any."""
    address = server.redis.connection_pool.connection_kwargs
    url = f"redis://default:{SECRET}@127.0.0.1:{address['port']}/{address['db']}"
    return server.environ() | {"HSM_REDIS_URL": url, "HSM_REDIS_URI": url}


def check(server: MetadataServer, pid: int, least: int) -> None:
    """That no process has it, nor any file but the one that the programs are configured by."""
    programs = family(pid)
    assert len(programs) >= least
    for process in programs:
        assert SECRET.encode() not in shown(process), shown(process)
        assert has_no_core(process)
    assert SECRET not in SUPERVISORD_CONF.read_text()
    files = [path for folder in (server.state_dir, server.run_dir) for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == [CONFIG_FILE]
    assert {"README.conf", f"mdt-{MDT}.conf"} <= {path.name for path in files}


def test_no_process_shows_the_password_of_the_environment(server: SimulatedServer) -> None:
    server.add_mdt(MDT, action_line(1))
    to, out = socket.socketpair()  # as the journal's: with a relay, so two processes more
    with to, out:
        server.start(stderr=out.fileno(), command=[str(COMMAND)], environ=secret_keys(server))
        server.wait_polled_by(MDT)
        check(server, server.pid, 6)
        done = server.run("maintain")
        assert done.returncode == 0, done.stderr
        assert server.stop() == 0


def test_nor_does_a_detached_one(server: SimulatedServer) -> None:
    server.add_mdt(MDT, action_line(1))
    keys = clean_environment() | secret_keys(server)
    command = [str(COMMAND), "-c", str(server.config), "--daemon"]  # named, so that it can be found and ended
    subprocess.run(command, env=keys, check=True, timeout=DEADLINE_S, capture_output=True)
    server.wait_polled_by(MDT)
    pid = int((server.run_dir / PID_FILE).read_text())
    check(server, pid, 4)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_what_is_asked_for_paths_is_not_given_it(tmp_path: Path, server: SimulatedServer) -> None:
    world = World(tmp_path / "world")
    (world.folder / "bin/lfs").write_text('#!/bin/sh\n/usr/bin/env > "$LFS_WORLD/environment"\n')
    server.add_mdt(MDT, action_line(1))
    assert server.run("--run-once").returncode == 0
    keys = clean_environment() | secret_keys(server) | world.environment
    command = [sys.executable, "-m", "hsm_tools.tail", "--run-once", *PATHS]
    subprocess.run(command, env=keys, check=True, timeout=DEADLINE_S, capture_output=True)
    assert "LFS_WORLD" in (given := (world.folder / "environment").read_text()) and SECRET not in given


def test_a_tool_hides_the_password_that_it_was_given_as_an_argument(server: SimulatedServer) -> None:
    """For as long as it runs; before it has looked at its arguments, `ps` may show them."""
    url = secret_keys(server)["HSM_REDIS_URL"]
    tail = subprocess.Popen([str(COMMAND.with_name("hsm-stream-tail")), "--redis-url", url, "--no-paths"])
    process = Path(f"/proc/{tail.pid}")
    eventually(lambda: b"--redis-url" in (said := (process / "cmdline").read_bytes()) and b"xxx" in said)
    assert SECRET.encode() not in (process / "cmdline").read_bytes()
    tail.kill()
    tail.wait(DEADLINE_S)


@pytest.fixture(params=[0o000, 0o077], ids=["umask 000", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A hostile one, of this process as well."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def others(path: Path) -> int:
    """What others than user and group may do."""
    return stat.S_IMODE(path.lstat().st_mode) & 0o007


def made(server: MetadataServer) -> list[Path]:
    """Folders and files of the shipper."""
    folders = (server.state_dir, server.run_dir)
    return [*folders, *(path for folder in folders for path in folder.rglob("*"))]


def test_nothing_is_for_others(make_server: MakeServer, umask: int) -> None:
    server = make_server()
    log = server.root / "logs.log"
    server.configure(log_file=str(log))
    server.add_mdt(MDT, action_line(1))
    server.start()
    server.wait_polled_by(MDT)
    assert server.run("maintain").returncode == 0
    assert {path.suffix for path in made(server)} >= {".sqlite3", ".lock", ".conf", ".json", ".pid", ".sock", ""}
    assert [path for path in (log, *made(server)) if others(path)] == []
    assert stat.S_IMODE(socket_path(server.run_dir).stat().st_mode) == 0o700
    if umask == 0o077:  # a stricter one than ours stays
        strict = [log, server.state_dir, server.run_dir, *server.state_dir.glob("*")]
        assert [path for path in strict if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert server.stop() == 0


def test_nor_what_a_single_poll_makes(make_server: MakeServer, umask: int) -> None:
    server = make_server(state_dir="")
    server.state_dir = server.root / "deep/state"  # folders above it are made as well
    server.configure(state_dir=str(server.state_dir))
    server.add_mdt(MDT, action_line(1))
    done = server.run("--run-once", "--maintenance-now")
    assert done.returncode == 0, (umask, done.stderr)
    assert [path for path in (server.state_dir.parent, *made(server)) if path.exists() and others(path)] == []


def test_it_does_not_start_where_everybody_may_add_programs(server: SimulatedServer) -> None:
    server.run_dir.mkdir()
    server.run_dir.chmod(0o777)
    server.state_dir.mkdir()
    server.state_dir.chmod(0o777)
    [problem] = findings(server, "run_dir", level="problem")
    [warning] = findings(server, "state_dir", level="warning")
    assert problem == f"every user may write in {server.run_dir}; chmod o-w {server.run_dir}"
    assert warning == f"every user may write in {server.state_dir}; chmod o-w {server.state_dir}"
    done = server.run("--daemon")
    assert done.returncode == 2
    assert f"every user may write in {server.run_dir}, and have programs run there; chmod o-w" in done.stderr
    server.run_dir.chmod(0o750)
    files = ProgramFiles(server.run_dir)  # as under a hostile umask of an earlier release
    files.folder.mkdir()
    files.folder.chmod(0o777)
    (files.folder / "evil.conf").write_text("[program:evil]\ncommand=/bin/true\n")
    server.start()
    assert others(files.folder) == 0 and "evil" not in server.programs()
    assert server.stop() == 0
