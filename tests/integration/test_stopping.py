"""Stop signals, cadence, and processes that end with their parent: in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hsm_shipper.errors import SupervisorError
from hsm_shipper.orphan import SUPERVISORD_PID_VARIABLE, exit_with_parent
from hsm_shipper.stopping import Cadence
from tests.waiting import eventually

WAITS = """
from hsm_shipper.stopping import StopSignal
stop = StopSignal()
assert not stop.wait(-1.0)
print("ready", flush=True)
print(stop.wait(3600.0), stop.wait(3600.0), flush=True)
"""
# A parent that is killed, and a child that asked to end with it; both print their pids.
PARENT = """
import os, subprocess, sys
environment = os.environ | {"SHIPPER_PID": str(os.getpid())}
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=environment)
child.wait()
"""
CHILD = """
import os, time
from hsm_shipper.orphan import exit_with_parent
exit_with_parent()
print(os.getpid(), flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_a_wait_at_once(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"True True\n"
    assert process.returncode == 0


def test_a_late_tick_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    cadence = Cadence(0.2)
    assert cadence.seconds_to_next() == pytest.approx(0.2)
    now_s += 0.5
    assert cadence.seconds_to_next() == pytest.approx(0.1)


def test_a_child_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        parent.kill()
        eventually(lambda: not _is_alive(child_pid))


def test_a_child_whose_parent_is_gone_already_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUPERVISORD_PID_VARIABLE, "1")
    if os.getppid() == 1:
        pytest.skip("this test is init's child")
    code = "from hsm_shipper.orphan import exit_with_parent; exit_with_parent()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and SupervisorError.__name__ in done.stderr


def test_a_process_that_supervisord_did_not_start_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUPERVISORD_PID_VARIABLE, raising=False)
    exit_with_parent()


def _is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False
