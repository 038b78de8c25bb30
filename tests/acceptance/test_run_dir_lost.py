"""Somebody removes what a running shipper keeps in its run_dir: it is put back, and nobody calls that well."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm_shipper.errors import ControlLost
from hsm_shipper.state.locks import FileLock
from hsm_shipper.supervision.launch import LOG_FILE
from hsm_shipper.supervision.run_folder import CONFIG_FILE, PID_FILE
from hsm_shipper.supervision.supervisord import DISCOVERY, socket_path
from tests.support.shipper import MetadataServer, action_line
from tests.support.waiting import eventually

WITHIN_S = 60.0


def remove_folder(folder: Path) -> None:
    """Remove it with all that is in it, also what programs put there meanwhile."""

    def is_gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    eventually(is_gone)


def start(server: MetadataServer, *, detached: bool) -> int:
    """Start a shipper with one MDT; returns its pid."""
    server.add_mdt("elm-MDT0000", action_line(1))
    if detached:
        assert server.run("--daemon").returncode == 0
    else:
        server.start()
    server.wait_running("elm-MDT0000")
    server.wait_all_running()
    server.wait_events("elm-MDT0000", 1)
    return server.supervisor.pid()


def answers(server: MetadataServer) -> None:
    """Wait until it can be reached again, and says that all is well."""
    eventually(server.answers, WITHIN_S)
    eventually(lambda: server.run("status").returncode == 0, WITHIN_S)


def arrive_and_leave(server: MetadataServer) -> None:
    """An MDT comes and one leaves; both are acted on, and nothing is lost or told twice."""
    server.add_mdt("elm-MDT0001", action_line(2))
    server.remove_mdt("elm-MDT0000")
    eventually(lambda: server.is_running("elm-MDT0001"), WITHIN_S)
    server.wait_events("elm-MDT0001", 1)
    assert [event["event_type"] for event in server.events("elm-MDT0000")] == ["NEW"]


def test_status_and_check_tell_that_control_is_lost(server: MetadataServer) -> None:
    pid = start(server, detached=False)
    os.kill(pid, signal.SIGSTOP)  # it cannot repair it yet
    try:
        remove_folder(server.run_dir)
        told = f"hsm-action-shipper runs (pid {pid}), but nobody listens on {socket_path(server.run_dir)}"
        status = server.run("status")
        assert status.returncode == 1
        assert told in status.stdout and "elm-MDT0000  unknown" in status.stdout
        assert json.loads(server.run("status", "--json").stdout)["running"] is True
        check = server.run("check")
        assert check.returncode == 2
        assert "problem  shipper" in check.stdout and told in check.stdout
        maintained = server.run("maintain")
        assert maintained.returncode == 1 and told in maintained.stderr
        started = server.run()
        assert started.returncode == 3 and f"is already running (pid {pid}" in started.stderr
    finally:
        os.kill(pid, signal.SIGCONT)
    answers(server)
    assert server.stop() == 0
    assert "supervisord is not running" in server.run("status").stdout


def test_a_removed_socket_is_bound_again_and_workers_do_not_notice(server: MetadataServer) -> None:
    start(server, detached=False)
    before = server.programs()
    socket_path(server.run_dir).unlink()
    server.add_mdt("elm-MDT0001", action_line(2))
    eventually(lambda: server.is_running("elm-MDT0000", "elm-MDT0001"), WITHIN_S)
    after = server.programs()
    assert {name: after[name].pid for name in before} == {name: before[name].pid for name in before}
    assert f"{server.run_dir} had lost supervisor.sock: put back" in server.log.read_text()
    assert socket_path(server.run_dir).stat().st_mode & 0o777 == 0o700
    # Also a second time, and after a reload, which makes a socket and the plug-in anew.
    server.supervisorctl("reload")
    server.wait_pid_changed(DISCOVERY, after[DISCOVERY].pid)
    socket_path(server.run_dir).unlink()
    answers(server)
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_socket_of_somebody_else_is_replaced(server: MetadataServer) -> None:
    start(server, detached=False)
    path = socket_path(server.run_dir)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        answers(server)


@pytest.mark.parametrize("detached", [False, True], ids=["foreground", "daemon"])
def test_a_removed_run_dir_is_made_again(server: MetadataServer, detached: bool) -> None:
    pid = start(server, detached=detached)
    remove_folder(server.run_dir)
    arrive_and_leave(server)
    answers(server)
    assert server.supervisor.pid() == pid
    for name in (PID_FILE, "supervisord.pid"):
        assert (server.run_dir / name).read_text() == f"{pid}\n"
    assert (server.run_dir / CONFIG_FILE).stat().st_mode & 0o777 == 0o600
    # The lock is one again: other state in the same folder is refused.
    refused = server.run(HSM_STATE_DIR=str(server.root / "other"))
    assert refused.returncode == 3 and f"pid {pid}" in refused.stderr
    # And a program that ends can start again.
    worker = server.worker("elm-MDT0001")
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    server.wait_pid_changed("mdt-elm-MDT0001", worker.pid)
    log = server.run_dir / LOG_FILE if detached else server.log
    assert "mdt-elm-MDT0001: polling" in log.read_text()
    assert not detached or Path(f"/proc/{pid}/fd/2").resolve() == log

    os.kill(pid, signal.SIGTERM)
    if not detached:
        assert server.stop() == 0
    eventually(lambda: not server.processes(), WITHIN_S)
    assert sorted(path.name for path in server.run_dir.iterdir()) == ([LOG_FILE] if detached else []) + ["mdt.d"]


@pytest.mark.parametrize(
    "remove",
    [
        lambda run_dir: (run_dir / CONFIG_FILE).unlink(),
        lambda run_dir: (run_dir / PID_FILE).unlink(),
        lambda run_dir: (run_dir / "supervisord.pid").unlink(),
        lambda run_dir: remove_folder(run_dir / "mdt.d"),
    ],
    ids=[CONFIG_FILE, PID_FILE, "supervisord.pid", "mdt.d"],
)
def test_a_part_of_it_is_put_back(server: MetadataServer, remove: Callable[[Path], None]) -> None:
    start(server, detached=False)
    before = sorted(path.name for path in server.run_dir.iterdir())
    remove(server.run_dir)
    eventually(lambda: sorted(path.name for path in server.run_dir.iterdir()) == before, WITHIN_S)
    arrive_and_leave(server)


def test_a_run_dir_that_cannot_be_made_yet_is_made_once_it_can(server: MetadataServer) -> None:
    server.run_dir = server.root / "parent/run"
    server.configure(run_dir=str(server.run_dir))
    server.supervisor = type(server.supervisor)(server.run_dir, server.state_dir)
    start(server, detached=False)
    remove_folder(server.run_dir.parent)
    server.run_dir.parent.write_text("in the way\n")
    eventually(lambda: "cannot put back what was removed from" in server.log.read_text(), WITHIN_S)
    with pytest.raises(ControlLost):
        server.supervisor.pid()
    assert server.run("status").returncode == 1 and server.run("check").returncode == 2
    server.run_dir.parent.unlink()
    arrive_and_leave(server)
    answers(server)
    assert server.log.read_text().count("cannot put back") == 1
    assert "Traceback" not in server.log.read_text()
    remove_folder(server.run_dir.parent)
    server.run_dir.parent.write_text("in the way\n")
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_run_dir_that_another_shipper_has_by_now_is_left_to_it(server: MetadataServer) -> None:
    start(server, detached=False)
    os.kill(server.pid, signal.SIGSTOP)
    remove_folder(server.run_dir)
    with FileLock(server.run_dir / PID_FILE, "this test"):
        (server.run_dir / CONFIG_FILE).write_text("another's")
        os.kill(server.pid, signal.SIGCONT)
        assert server.wait_end() == 3
        assert (server.run_dir / CONFIG_FILE).read_text() == "another's"
        assert (server.run_dir / PID_FILE).exists()
    assert f"is already running (pid {os.getpid()}" in server.log.read_text()
    assert not [command for command in server.processes().values() if "hsm_shipper.worker.main" in command]


def test_a_reload_without_a_run_dir_is_a_reload(server: MetadataServer) -> None:
    """Without a mend supervisord ends at a reload that finds no folder for its socket."""
    start(server, detached=False)
    worker = server.worker("elm-MDT0000")
    assert worker is not None
    remove_folder(server.run_dir)
    os.kill(server.pid, signal.SIGHUP)
    server.wait_pid_changed("mdt-elm-MDT0000", worker.pid)
    arrive_and_leave(server)
