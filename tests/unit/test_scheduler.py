"""Jobs: one run at a time, one for all that were missed, and stopping that waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from hsm_shipper.errors import HsmError
from hsm_shipper.maintenance.scheduler import RUNS_AT_A_TIME, Scheduler
from tests.support.waiting import DEADLINE_S, eventually

INTERVAL_S = 0.1


class Runs:
    """Counts runs, and how many there are at once; each waits for `gate`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        self.done: list[str] = []
        self.begun: list[float] = []
        self.now = 0
        self.most = 0

    def __call__(self, mdt: str) -> None:
        with self.lock:
            self.begun.append(time.monotonic())
            self.now += 1
            self.most = max(self.most, self.now)
        self.gate.wait(DEADLINE_S)
        with self.lock:
            self.now -= 1
            self.done.append(mdt)


def seldom(mdt: str) -> BaseTrigger:
    return IntervalTrigger(seconds=86_400, start_date=datetime(2100, 1, 1, tzinfo=UTC), timezone=UTC)


def often(mdt: str) -> BaseTrigger:
    return IntervalTrigger(seconds=INTERVAL_S, start_date=datetime(2000, 1, 1, tzinfo=UTC), timezone=UTC)


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def jobs(runs: Runs) -> Iterator[Scheduler]:
    jobs = Scheduler(runs, seldom)
    yield jobs
    runs.gate.set()
    jobs.stop()


def test_many_that_are_due_take_turns(jobs: Scheduler, runs: Runs) -> None:
    mdts = [f"elm-MDT{number:04x}" for number in range(40)]
    for mdt in mdts:
        jobs.add(mdt)
    assert jobs.mdts() == set(mdts)
    jobs.run_soon(mdts)
    eventually(lambda: len(runs.done) == 40)
    assert sorted(runs.done) == mdts
    assert runs.most == RUNS_AT_A_TIME


def test_a_run_asked_for_twice_is_one_run(jobs: Scheduler, runs: Runs) -> None:
    jobs.add("elm-MDT0000")
    jobs.run_soon(["elm-MDT0000"], delay_s=3600)
    assert jobs.is_coming("elm-MDT0000")
    runs.gate.clear()
    jobs.run_soon(["elm-MDT0000"])
    eventually(lambda: runs.begun)
    assert jobs.is_coming("elm-MDT0000")  # it goes on
    runs.gate.set()
    eventually(lambda: not jobs.is_coming("elm-MDT0000"))
    assert len(runs.done) == 1


def test_a_run_asked_for_while_one_goes_on_comes_after_it(jobs: Scheduler, runs: Runs) -> None:
    """It may have passed already what the next one is asked for."""
    jobs.add("elm-MDT0000")
    runs.gate.clear()
    jobs.run_soon(["elm-MDT0000"])
    eventually(lambda: runs.now == 1)
    jobs.run_soon(["elm-MDT0000"])
    eventually(lambda: len(jobs._scheduler.get_jobs()) == 1)  # it waits for its turn
    runs.gate.set()
    eventually(lambda: len(runs.done) == 2)
    assert runs.most == 1


def test_a_clock_that_is_set_back_puts_nothing_off(jobs: Scheduler, runs: Runs) -> None:
    hourly = IntervalTrigger(seconds=3600, start_date=datetime(2000, 1, 1, tzinfo=UTC), timezone=UTC)
    jobs._trigger_of = lambda _mdt: hourly
    jobs.add("elm-MDT0000")
    scheduled = jobs._scheduler.get_job("elm-MDT0000")
    scheduled.modify(next_run_time=scheduled.next_run_time + timedelta(hours=10))  # as the clock was ten hours ahead
    jobs.run_soon(["elm-MDT0001"], delay_s=36_000)
    jobs.look_at_the_clock()
    assert jobs.is_coming("elm-MDT0001") and not runs.begun
    jobs._ahead_s += 36_000
    jobs.look_at_the_clock()
    eventually(lambda: runs.done == ["elm-MDT0001"])
    next_run_time = jobs._scheduler.get_job("elm-MDT0000").next_run_time
    assert next_run_time - datetime.now(UTC) <= timedelta(hours=1)


def test_what_is_removed_does_not_run(jobs: Scheduler, runs: Runs) -> None:
    jobs._scheduler.pause()  # nothing runs before one of them is removed
    for mdt in ("elm-MDT0000", "elm-MDT0001"):
        jobs.add(mdt)
        jobs.run_soon([mdt])
    jobs.remove("elm-MDT0000")
    jobs.remove("elm-MDT0000")
    jobs._scheduler.resume()
    eventually(lambda: runs.done)
    assert runs.done == ["elm-MDT0001"] and jobs.mdts() == {"elm-MDT0001"}
    assert not jobs.is_coming("elm-MDT0000")


def test_what_was_missed_is_made_up_for_by_one_run(runs: Runs) -> None:
    jobs = Scheduler(runs, often)
    runs.gate.clear()
    jobs.add("elm-MDT0000")
    eventually(lambda: runs.begun)
    eventually(lambda: time.monotonic() > runs.begun[0] + 10 * INTERVAL_S)  # ten are due, and cannot run
    released_at = time.monotonic()
    runs.gate.set()
    eventually(lambda: len(runs.begun) >= 4)
    jobs.stop()
    # From then on one at a time, an interval apart: nothing has queued up.
    assert runs.begun[3] - released_at > 2 * INTERVAL_S * 0.8


def test_stopping_waits_for_a_run_that_asks_for_another(runs: Runs) -> None:
    asked: list[str] = []

    def run(mdt: str) -> None:
        runs(mdt)
        stopping.run_soon([mdt], 60)
        asked.append(mdt)

    stopping = Scheduler(run, seldom)
    runs.gate.clear()
    stopping.add("elm-MDT0000")
    stopping.run_soon(["elm-MDT0000"])
    eventually(lambda: runs.begun)
    threading.Timer(0.1, runs.gate.set).start()
    stopping.stop()
    assert asked == ["elm-MDT0000"]


def test_a_scheduler_that_has_ended_is_noticed(jobs: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.look_at_the_clock()
    monkeypatch.setattr(jobs._scheduler, "_process_jobs", lambda: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)  # Python says it on stderr

    def is_noticed() -> bool:
        try:
            jobs.look_at_the_clock()
        except HsmError as error:
            return "has ended by an error" in str(error)
        return False

    eventually(is_noticed, 60)
