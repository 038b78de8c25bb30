"""Stop signals, cadence, and processes that end with their parent: in processes of their own."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from hsm_shipper.errors import SupervisorError
from hsm_shipper.process.cadence import REST, Cadence
from hsm_shipper.process.parent_death import SUPERVISORD_PID_VARIABLE, exit_with_parent
from hsm_shipper.process.stop_signal import StopSignal
from tests.support.waiting import eventually

WAITS = """
from hsm_shipper.process.stop_signal import StopSignal
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
from hsm_shipper.process.parent_death import exit_with_parent
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


class _Clock:
    """A monotonic clock that is moved on by work and by waits; it stands for a stop signal that never comes, too."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waited_s: list[float] = []
        self.oversleeps_s = 0.0

    def work(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, timeout_s: float) -> bool:
        self.waited_s.append(timeout_s)
        self.now_s += timeout_s + self.oversleeps_s
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """The clock of `stopping`."""
    clock = _Clock()
    monkeypatch.setattr("hsm_shipper.process.cadence.time.monotonic", lambda: clock.now_s)
    return clock


def waited_s(cadence: Cadence, clock: _Clock, at_most_s: float = math.inf) -> float:
    """How long `cadence` waits now."""
    assert not cadence.wait(cast(StopSignal, clock), at_most_s)
    return clock.waited_s[-1]


def test_a_late_tick_is_skipped(clock: _Clock) -> None:
    cadence = Cadence(20.0)
    assert waited_s(cadence, clock) == 20.0
    clock.work(24.0)
    assert waited_s(cadence, clock) == 16.0
    assert waited_s(cadence, clock, at_most_s=1.0) == 1.0
    assert waited_s(cadence, clock) == 19.0


def test_what_was_left_out_is_told(clock: _Clock) -> None:
    cadence = Cadence(20.0)
    waited_s(cadence, clock)
    assert (cadence.left_out, cadence.late_s) == (0, 0.0)
    for took_s, left_out, because_of_s in (
        (0.25, 0, 0.25),
        (50.0, 2, 50.0),
        (10.0, 1, 50.0),  # it had to wait until the rest was over
        (0.25, 0, 0.25),
    ):
        clock.work(took_s)
        waited_s(cadence, clock)
        assert (cadence.left_out, cadence.took_s, cadence.held_up_s) == (left_out, because_of_s, 0.0), took_s
    clock.oversleeps_s = 65.0
    waited_s(cadence, clock)
    clock.oversleeps_s = 0.0
    clock.work(0.25)
    waited_s(cadence, clock)
    assert (cadence.left_out, cadence.held_up_s) == (3, 65.0)


def test_the_first_tick_may_be_given_and_is_kept_to(clock: _Clock) -> None:
    cadence = Cadence(20.0, clock.now_s + 13.0)
    assert waited_s(cadence, clock) == 13.0
    assert waited_s(cadence, clock) == 20.0
    late = Cadence(20.0, clock.now_s + 13.0)
    clock.work(16.0)
    assert waited_s(late, clock) == 17.0


@pytest.mark.parametrize("took_s", [0.125, 5.0, 13.0, 13.5, 19.0, 19.75, 20.0, 20.25, 39.75, 40.25, 100.0, 3600.0])
def test_a_turn_is_followed_by_a_rest_of_half_its_time_and_in_time_by_the_next_tick(
    clock: _Clock, took_s: float
) -> None:
    cadence = Cadence(20.0)
    ends_s = [clock.now_s]
    for _ in range(20):
        clock.work(took_s)
        assert waited_s(cadence, clock) >= min(REST * took_s, 60.0)
        ends_s.append(clock.now_s)
    gaps = [after - before for before, after in itertools.pairwise(ends_s)]
    if took_s * (1 + REST) <= 20.0:
        assert gaps == [20.0] * 20
    else:  # no later than it must be, and where the rest allows on a tick
        assert max(gaps) < took_s * (1 + REST) + 20.0


def test_a_turn_that_was_held_up_for_hours_is_followed_by_the_next_within_a_minute(clock: _Clock) -> None:
    cadence = Cadence(20.0)
    clock.work(7200.0 + 1.0)
    assert waited_s(cadence, clock) == 60.0
    assert waited_s(cadence, clock) <= 20.0


def test_long_polls_leave_a_third_of_the_time_free(clock: _Clock) -> None:
    cadence = Cadence(0.5)
    begun_s, busy_s = clock.now_s, 0.0
    for took_s in (0.4375, 0.75, 0.875, 0.5, 30.0, 2.0) * 5:
        clock.work(took_s)
        busy_s += took_s
        waited_s(cadence, clock)
    assert busy_s <= (clock.now_s - begun_s) * 2 / 3


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
    code = "from hsm_shipper.process.parent_death import exit_with_parent; exit_with_parent()"
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
