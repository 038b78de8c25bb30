"""Commands whose output nobody takes: closed pipes, full disks, closed streams. No traceback, no status 120."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hsm_shipper.state.poll_status import read_poll_status, state_file
from tests.support.shipper import COMMAND, MetadataServer, action_line, clean_environment
from tests.support.waiting import eventually

PRINTING: list[tuple[str, ...]] = [
    ("--help",),
    ("--version",),
    ("check",),
    ("check", "--json"),
    ("status",),
    ("status", "--json"),
]
HELPS: list[tuple[str, ...]] = [("status", "--help"), ("check", "--help"), ("maintain", "--help")]
TOOLS = ["hsm-stream-tail", "hsm-action-top", "hsm-stream-stats", "hsm-stream-reconciler"]


@contextmanager
def closed_pipe() -> Iterator[int]:
    """A pipe that nobody reads from any more."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def full_disk() -> Iterator[int]:
    """A file on a full disk."""
    with Path("/dev/full").open("wb") as full:
        yield full.fileno()


def run(*command: str, out: int = subprocess.PIPE, err: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command with these for its output; what it leaves unbuffered by a variable is no measure."""
    environment = {name: value for name, value in clean_environment().items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, env=environment, stdout=out, stderr=err, text=True, timeout=60, check=False)


def shipper(server: MetadataServer, *arguments: str, **streams: int) -> subprocess.CompletedProcess[str]:
    """The same with `hsm-action-shipper` on a server; options of its own stand first."""
    return run(str(COMMAND), "-c", str(server.config), *arguments, **streams)


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_closed_pipe_ends_it_quietly(server: MetadataServer, arguments: list[str]) -> None:
    with closed_pipe() as out:
        done = shipper(server, *arguments, out=out)
    assert (done.returncode, done.stderr) == (141, "")
    with closed_pipe() as out:
        assert shipper(server, *arguments, out=out, err=out).returncode == 141


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_disk_is_one_line(server: MetadataServer, arguments: list[str]) -> None:
    with full_disk() as out:
        done = shipper(server, *arguments, out=out)
        assert done.returncode == 1
        assert done.stderr == (
            "hsm-action-shipper: error: cannot write to standard output: No space left on device; "
            "make room, or send it elsewhere\n"
        )
        assert shipper(server, *arguments, out=out, err=out).returncode == 1


@pytest.mark.parametrize("trouble", [closed_pipe, full_disk])
def test_what_cannot_be_said_on_standard_error_changes_nothing(server: MetadataServer, trouble: object) -> None:
    assert callable(trouble)
    with trouble() as err:
        assert shipper(server, "--bogus", err=err).returncode == 2
        assert shipper(server, "--run-once", err=err).returncode == 0  # says that there is no MDT
        assert shipper(server, "maintain", err=err).returncode == 2
        server.add_mdt("elm-MDT0000", action_line(1))
        server.redis.set("hsm:actions:elm-MDT0000", "not a stream")
        assert shipper(server, "--run-once", err=err).returncode == 1
        server.configure(pol_interval=7)
        assert shipper(server, "status", err=err).returncode == 2


@pytest.mark.parametrize(("trouble", "status"), [(closed_pipe, 141), (full_disk, 1)])
def test_work_is_done_to_its_end_without_a_reader(server: MetadataServer, trouble: object, status: int) -> None:
    assert callable(trouble)
    mdts = ["elm-MDT0000", "elm-MDT0001", "elm-MDT0002"]
    for mdt in mdts:
        server.add_mdt(mdt, action_line(1))
    with trouble() as out:
        assert shipper(server, "--run-once", "--maintenance-now", out=out).returncode == status
        for mdt in mdts:
            server.wait_events(mdt, 1)
        server.start()
        server.wait_running(*mdts)
        maintained = shipper(server, "maintain", out=out)
        assert maintained.returncode == status and "Traceback" not in maintained.stderr
        assert all(shown.count("maint") for shown in [shipper(server, "status").stdout])
        assert shipper(server, "status").stdout.count(" s ago ") >= 2 * len(mdts)


@pytest.mark.parametrize("trouble", [closed_pipe, full_disk])
def test_a_daemon_starts_and_works_whoever_reads_what_it_says(server: MetadataServer, trouble: object) -> None:
    assert callable(trouble)
    server.add_mdt("elm-MDT0000", action_line(1))
    with trouble() as out:
        assert shipper(server, "--daemon", out=out, err=out).returncode == 0
        server.wait_running("elm-MDT0000")
        assert shipper(server, "--daemon", out=out, err=out).returncode == 3


@pytest.mark.parametrize("trouble", [closed_pipe, full_disk])
def test_the_foreground_works_although_nobody_takes_its_log(server: MetadataServer, trouble: object) -> None:
    assert callable(trouble)
    server.add_mdt("elm-MDT0000", action_line(1))
    with trouble() as err:
        server.start(stderr=err)
        server.wait_running("elm-MDT0000")
        server.add_mdt("elm-MDT0001", action_line(2))
        server.wait_running("elm-MDT0000", "elm-MDT0001")
        server.remove_mdt("elm-MDT0000")
        server.wait_running("elm-MDT0001")
        assert server.stop() == 0


def test_a_log_on_a_full_disk_ends_nothing(server: MetadataServer) -> None:
    server.configure(log_file="/dev/full")
    server.add_mdt("elm-MDT0000", action_line(1))
    with full_disk() as err:
        server.start(stderr=err)
        server.add_mdt("elm-MDT0001", action_line(2))
        server.wait_running("elm-MDT0000", "elm-MDT0001")
        server.wait_events("elm-MDT0001", 1)
        assert server.stop() == 0


def test_a_log_that_cannot_be_opened_again_ends_nothing(server: MetadataServer) -> None:
    log = server.root / "logs/shipper.log"
    log.parent.mkdir()
    server.configure(log_file=str(log))
    server.add_mdt("elm-MDT0000", action_line(1))
    server.start()
    server.wait_running("elm-MDT0000")
    shutil.rmtree(log.parent)
    os.kill(server.pid, signal.SIGUSR2)
    worker = server.worker("elm-MDT0000")
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    new_pid = server.wait_pid_changed("mdt-elm-MDT0000", worker.pid)
    path = state_file(server.state_dir, "elm-MDT0000")
    eventually(lambda: (status := read_poll_status(path)) and status.pid == new_pid)  # it hears signals by then
    assert f"cannot open log {log}: No such file or directory" in server.log.read_text()
    log.parent.mkdir()
    os.kill(server.pid, signal.SIGUSR2)
    assert server.stop() == 0
    assert "mdt-elm-MDT0000: stopped" in log.read_text()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_place_for_other_files(server: MetadataServer, closed: str) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    for command, status in (("--run-once", 0), ("status", 2), ("--daemon", 0), ("--bogus", 2)):
        done = run("sh", "-c", f'exec "$0" -c "$1" {command} {closed}', str(COMMAND), str(server.config))
        assert done.returncode == status, (command, done)
        assert "Traceback" not in done.stderr
    server.wait_running("elm-MDT0000")
    server.wait_events("elm-MDT0000", 1)


def test_a_letter_that_the_encoding_lacks_is_escaped(server: MetadataServer) -> None:
    server.configure(mdt_watch_glob=f"{server.root}/é/*-MDT????/hsm/actions")
    environment = clean_environment() | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [str(COMMAND), "-c", str(server.config), "check"], env=environment, capture_output=True, text=True, check=False
    )
    assert r"\xe9" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_the_help_of_the_tools_ends_in_the_same_ways(tool: str) -> None:
    command = str(COMMAND.with_name(tool))
    with closed_pipe() as out:
        done = run(command, "--help", out=out)
        assert (done.returncode, done.stderr) == (141, "")
        assert run(command, "--bogus", err=out).returncode == 2
    with full_disk() as out:
        done = run(command, "--help", out=out)
        assert done.returncode in (1, 2) and "cannot write to standard output" in done.stderr  # each has its own
        assert run(command, "--bogus", err=out).returncode == 2
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = run("sh", "-c", f'exec "$0" --help {closed}', command)
        assert (done.returncode, done.stderr) == (0, "")
