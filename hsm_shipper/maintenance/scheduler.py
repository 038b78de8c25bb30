"""When which MDT is maintained: APScheduler's jobs, one MDT at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from hsm_shipper.errors import HsmError

# A run holds every live action of its MDT in memory, and Python computes on one processor only.
RUNS_AT_A_TIME = 1
# Of less nothing comes but a run that is so much late.
_SET_BACK_S = 60.0


class Scheduler:
    """Calls `run(mdt)` in a thread whenever that is due, for the MDTs that it is told to keep.

    Each has a job on its schedule, and at times one that is to run sooner and once.
    """

    def __init__(self, run: Callable[[str], None], trigger_of: Callable[[str], BaseTrigger]) -> None:
        self._run = run
        self._trigger_of = trigger_of
        # It tells of every job added and run; what there is to say is said where the runs are.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._pool = ThreadPoolExecutor(RUNS_AT_A_TIME, thread_name_prefix="run")
        self._executor = _Executor(self._pool)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": self._executor},
            # Whatever was missed, by a busy or a sleeping machine, is made up for by one run.
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        )
        self._scheduler.start()
        self._ahead_s = _ahead_s()

    def mdts(self) -> frozenset[str]:
        """The MDTs that are kept."""
        return frozenset(job.id for job in self._scheduler.get_jobs() if "/" not in job.id)

    def add(self, mdt: str) -> datetime:
        """Keep `mdt` from now on; returns when it is due for the first time."""
        due: datetime = self._scheduler.add_job(self._run, self._trigger_of(mdt), args=[mdt], id=mdt).next_run_time
        return due

    def remove(self, mdt: str) -> None:
        """Keep it no longer; a run that is going on is not stopped by this."""
        for job in (mdt, _soon(mdt)):
            try:
                self._scheduler.remove_job(job)
            except JobLookupError:
                continue  # it had none

    def run_soon(self, mdts: Iterable[str], delay_s: float = 0.0) -> None:
        """Run each of `mdts` once in `delay_s` seconds, beside its schedule, and not at another time so asked for."""
        due = DateTrigger(datetime.now(UTC) + timedelta(seconds=delay_s), timezone=UTC)
        for mdt in mdts:
            # Two: what is asked for while such a run goes on waits for its end. APScheduler would leave it out.
            self._scheduler.add_job(self._run, due, args=[mdt], id=_soon(mdt), replace_existing=True, max_instances=2)

    def is_coming(self, mdt: str) -> bool:
        """Whether a run is asked for, waits for its turn, or goes on; one that is on its schedule does not count."""
        asked_for = self._scheduler.get_job(_soon(mdt)) is not None
        return asked_for or self._executor.has(mdt) or self._executor.has(_soon(mdt))

    def look_at_the_clock(self) -> None:
        """Run what is due: the scheduler waits by a clock that stands still while a machine sleeps.

        Where the time of day was set back, as on a server that has just booted, all is due anew: else nothing would run
        for as long as that, and what is asked for because a stream grows would pass for coming.
        Raises `HsmError` where its thread has ended: nothing would ever run again, and nobody would say so.
        """
        if not self._scheduler._thread.is_alive():
            raise HsmError("the scheduler of maintenance has ended by an error", "see above; it is started anew")
        before_s, self._ahead_s = self._ahead_s, _ahead_s()
        if before_s - self._ahead_s > _SET_BACK_S:
            self._make_due_anew(timedelta(seconds=before_s - self._ahead_s))
        self._scheduler.wakeup()

    def _make_due_anew(self, back: timedelta) -> None:
        for job in self._scheduler.get_jobs():
            try:
                if "/" in job.id:
                    job.modify(next_run_time=job.next_run_time - back)
                else:
                    job.reschedule(self._trigger_of(job.id))
            except JobLookupError:
                continue  # it has just run, or the MDT has left

    def stop(self) -> None:
        """Wait for the run that goes on and those that wait for their turn: they have to notice by themselves."""
        # The scheduler would wait with its locks held, and a run that asks for another one would wait for them.
        self._scheduler.shutdown(wait=False)
        self._pool.shutdown(wait=True)


class _Executor(BasePoolExecutor):  # type: ignore[misc] # APScheduler has no types
    """APScheduler's executor on a pool that we can wait for ourselves."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(pool)

    def has(self, job: str) -> bool:
        """Whether the job waits for its turn or runs."""
        with self._lock:
            return job in self._instances


def _ahead_s() -> float:
    """How far the time of day is ahead of the clock that nobody sets."""
    return time.time() - time.monotonic()


def _soon(mdt: str) -> str:
    return f"{mdt}/soon"  # no MDT has a slash in its name
