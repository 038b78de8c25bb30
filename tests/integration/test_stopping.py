"""Stop signals, cadence, and processes that end with their parent: in processes of their own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm_shipper.errors import SupervisorError
from hsm_shipper.orphan import SUPERVISORD_PID_VARIABLE, exit_with_parent
from hsm_shipper.stopping import REST, Cadence
from tests.waiting import eventually

WAITS = """
from hsm_shipper.stopping import StopSignal
stop = StopSignal()
assert not stop.wait(-1.0)
print("ready", flush=True)
print(stop.wait(60.0), stop.wait(60.0), flush=True)
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
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_a_wait_at_once(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"True True\n"
    assert process.returncode == 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A monotonic clock that stands still; the function moves it on by seconds."""
    now_s = [1000.0]
    monkeypatch.setattr("hsm_shipper.stopping.time.monotonic", lambda: now_s[0])

    def pass_by(seconds: float) -> None:
        now_s[0] += seconds

    return pass_by


def test_a_late_tick_is_skipped(clock: Callable[[float], None]) -> None:
    cadence = Cadence(20.0)
    assert cadence.seconds_to_next() == 20.0
    clock(45.0)  # nothing was done: this process was stopped
    cadence.begin()
    clock(3.0)
    assert cadence.seconds_to_next() == 12.0


@pytest.mark.parametrize("took_s", [0.1, 5.0, 13.0, 13.4, 19.0, 19.9, 20.0, 20.1, 39.9, 40.1, 100.0, 3600.0])
def test_a_turn_is_followed_by_a_rest_of_half_its_time_and_in_time_by_the_next_tick(
    clock: Callable[[float], None], took_s: float
) -> None:
    cadence = Cadence(20.0)
    begun_s, ends = 1000.0, []
    for _ in range(20):
        cadence.begin()
        clock(took_s)
        rest_s = cadence.seconds_to_next()
        assert rest_s >= REST * took_s - 1e-6
        clock(rest_s)
        ends.append(time.monotonic() - begun_s)
    if took_s * (1 + REST) <= 20.0:
        assert ends == pytest.approx([20.0 * turn for turn in range(1, 21)])
    else:  # no later than it must be, and where the rest allows on a tick
        gaps = [after - before for before, after in itertools.pairwise([0.0, *ends])]
        assert max(gaps) < took_s * (1 + REST) + 20.0


def test_long_polls_leave_a_third_of_the_time_free(
    clock: Callable[[float], None],
) -> None:
    cadence = Cadence(0.5)
    busy_s = 0.0
    for took_s in (0.49, 0.74, 0.99, 0.51, 30.0, 2.0) * 5:
        cadence.begin()
        clock(took_s)
        busy_s += took_s
        clock(cadence.seconds_to_next())
    assert busy_s <= (time.monotonic() - 1000.0) * 2 / 3 + 0.001


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
