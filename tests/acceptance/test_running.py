"""The installed command as a process: one at a time, detached or not, its log, its limits, and how it stops."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm_shipper.supervision.launch import LOG_FILE
from hsm_shipper.supervision.run_folder import PID_FILE
from hsm_shipper.supervision.supervisord import WORKER_PREFIX
from tests.support.shipper import MetadataServer, action_line
from tests.support.waiting import eventually


def test_a_second_shipper_is_refused_also_after_a_reload(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.start()
    server.wait_running("elm-MDT0000")
    worker = server.worker("elm-MDT0000")
    assert worker is not None
    for _ in range(2):
        for arguments in ((), ("--daemon",), ("--run-once",)):
            refused = server.run(*arguments)
            assert refused.returncode == 3
            assert refused.stderr.count("\n") == 1
            assert f"is already running (pid {server.pid}" in refused.stderr
        # Other state in the same run_dir is no better.
        refused = server.run(HSM_STATE_DIR=str(server.root / "other"))
        assert refused.returncode == 3 and f"pid {server.pid}" in refused.stderr
        server.supervisorctl("reload")
        worker_pid = server.wait_pid_changed("mdt-elm-MDT0000", worker.pid)
        worker = worker._replace(pid=worker_pid)
    assert server.stop() == 0
    assert server.run("--run-once").returncode == 0


def test_daemon_starts_detached_and_stops_at_sigterm(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    started = server.run("--daemon")
    assert started.returncode == 0, started.stderr
    pid = server.supervisor.pid()
    log = server.run_dir / LOG_FILE
    assert started.stdout == f"hsm-action-shipper runs detached (pid {pid}), log {log}\n"
    pid_file = server.run_dir / PID_FILE
    assert pid_file.read_text() == f"{pid}\n"
    assert os.getsid(pid) not in (os.getsid(0), pid)
    server.wait_running("elm-MDT0000")
    assert server.run("--daemon").returncode == 3
    worker = server.programs()["mdt-elm-MDT0000"]
    server.supervisorctl("reload")
    server.wait_pid_changed("mdt-elm-MDT0000", worker.pid)
    assert server.run("--daemon").returncode == 3
    eventually(lambda: all(f" INFO {name}: " in log.read_text() for name in ("discovery", "mdt-elm-MDT0000")))

    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not server.processes())
    assert not pid_file.exists()
    assert "Traceback" not in log.read_text()


def test_daemon_that_cannot_start_says_so(server: MetadataServer) -> None:
    server.configure(log_file=f"{server.root}/no/such/log")
    failed = server.run("--daemon")
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1 and "cannot write log file" in failed.stderr


@pytest.mark.parametrize("url", ["redis://127.0.0.1/1?foo=1", "redis://127.0.0.1/one", "redis://127.0.0.1:x/1"])
def test_an_address_that_cannot_be_used_is_one_line_and_starts_nothing(server: MetadataServer, url: str) -> None:
    server.configure(redis_url=url)
    for how in ((), ("--daemon",), ("--run-once",), ("status",)):
        failed = server.run(*how)
        assert failed.returncode == 2
        assert failed.stderr.count("\n") == 1 and "redis_url" in failed.stderr
    assert not server.state_dir.exists() and not server.run_dir.exists()


def test_sixteen_workers_are_told_to_stop_at_once(server: MetadataServer) -> None:
    server.configure(poll_interval=0.5)  # that many would else keep the processors busy
    mdts = [f"elm-MDT{number:04x}" for number in range(16)]
    for mdt in mdts:
        server.add_mdt(mdt, action_line(1))
    server.start()
    eventually(lambda: server.is_running(*mdts))
    # Discovery looks once more when all of them run, and knows their pids from then on.
    server.add_mdt("elm-MDT0100")
    eventually(lambda: server.is_running(*mdts, "elm-MDT0100"))
    for mdt in mdts:
        server.wait_polled_by(mdt)  # from then on it handles the signal
    workers = [program.pid for name, program in server.programs().items() if name.removeprefix(WORKER_PREFIX) in mdts]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # none can end before all are told
    eventually(lambda: {process_status(pid, "State")[0] for pid in workers} == {"T"})
    os.kill(server.pid, signal.SIGTERM)
    eventually(lambda: all(has_been_told(pid) for pid in workers))
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    assert server.wait_end() == 0
    assert not server.processes()


def has_been_told(pid: int) -> bool:
    """Whether SIGTERM waits for a process that is stopped."""
    return bool(int(process_status(pid, "ShdPnd"), 16) >> signal.SIGTERM - 1 & 1)


def process_status(pid: int, name: str) -> str:
    """What the kernel tells of a process under that name."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)[name]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_stops_quietly(server: MetadataServer, how: signal.Signals) -> None:
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_polled_by("elm-MDT0000")
    assert server.stop(how) == 0
    log = server.log.read_text()
    assert "Traceback" not in log and "ERROR" not in log
    assert "mdt-elm-MDT0000: stopped" in log
    assert sorted(path.name for path in server.run_dir.iterdir()) == ["mdt.d"]


def test_the_log_reaches_a_socket(server: MetadataServer) -> None:
    """As systemd's journal is one."""
    server.add_mdt("elm-MDT0000")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server.start(stderr=theirs.fileno())
        theirs.close()
        server.wait_polled_by("elm-MDT0000")
        assert server.stop() == 0
        text = b"".join(iter(lambda: ours.recv(65536), b"")).decode()
    assert "supervisord started" in text and "mdt-elm-MDT0000: stopped" in text
    assert text.endswith("\n")


def test_one_log_file_that_can_be_rotated(server: MetadataServer) -> None:
    log_file = server.root / "shipper.log"
    server.configure(log_file=str(log_file))
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_polled_by("elm-MDT0000")
    eventually(lambda: "discovery: watching" in log_file.read_text())
    log_file.rename(server.root / "shipper.log.1")
    os.kill(int((server.run_dir / "supervisord.pid").read_text()), signal.SIGUSR2)
    eventually(log_file.exists)
    assert server.stop() == 0
    old, new = (server.root / "shipper.log.1").read_text(), log_file.read_text()
    assert "discovery: watching" in old and "mdt-elm-MDT0000: polling" in old
    assert "mdt-elm-MDT0000: stopped" in new
    assert server.log.read_text() == ""


def test_supervisorctl_works_as_documented(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_running("elm-MDT0000")
    server.wait_all_running()
    assert server.supervisorctl("status").count("RUNNING") == 3
    assert "mdt-elm-MDT0000: stopped" in server.supervisorctl("restart", "mdt-elm-MDT0000")


def test_a_low_limit_of_descriptors_does_not_keep_it_from_starting(server: MetadataServer) -> None:
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))  # noqa: E731
    server.add_mdt("elm-MDT0000")
    server.start(before=limit)
    server.wait_running("elm-MDT0000")
    assert server.stop() == 0
