"""Discovery: keeps one worker for each MDT that this server serves, as MDTs come and go.

It compares what is there with what should be, every poll, and remembers nothing that it could not see again: it may
die at any time, and its successor goes on from there. Run by supervisord, as
`python -m hsm_shipper.supervision.discovery`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hsm_shipper.config import Config
from hsm_shipper.errors import ControlLost, HsmError, NotRunning, ShuttingDown, SupervisorError
from hsm_shipper.lustre.mdts import find_mdts
from hsm_shipper.process import log
from hsm_shipper.process.cadence import Cadence
from hsm_shipper.process.last_look import note_look
from hsm_shipper.process.lateness import Lateness
from hsm_shipper.process.program import command_line, run_program
from hsm_shipper.process.stop_signal import StopSignal
from hsm_shipper.state.forget import forget, stored_mdts
from hsm_shipper.supervision.discovery_plan import Plan, RestartBackoff, Seen, decide, is_settled
from hsm_shipper.supervision.supervisord import (
    DISCOVERY,
    WORKER_PREFIX,
    Program,
    ProgramFiles,
    Supervisor,
    programs_for,
)

logger = logging.getLogger(__name__)

# How soon to look again while something is under way: a worker that is stopping, then anything else.
_LEAVING_S = 0.1
_UNSETTLED_S = 1.0


class Discovery:
    """One server's MDTs and its workers; `step` looks once and does what is to be done."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._supervisor = Supervisor(config.run_path, config.state_path)
        self._files = ProgramFiles(config.run_path)
        self._backoff = RestartBackoff()
        self._errors = log.RepeatedErrors(logger)
        self._remarked: set[str] = set()
        self._worker_pids: tuple[int, ...] = ()
        self._told_watching: str | None = None

    def step(self) -> float:
        """Look, and act; returns the seconds after which to look again at the latest."""
        try:
            seen = self._look()
            plan = decide(seen, self._backoff.due(seen.running, time.monotonic()))
            wait_s = self._act(plan, seen)
            self._tell_watching(seen)
        except ShuttingDown:
            return _UNSETTLED_S
        except SupervisorError as error:
            self._errors.failed("supervisord", error)
            return _UNSETTLED_S
        self._errors.worked("supervisord")
        return wait_s

    def stop_workers(self) -> None:
        """If supervisord is shutting down, have all workers stop now.

        It stops program after program, a second or more each; ended ones take it no time. But when only discovery is
        stopped, the workers must not notice.
        """
        try:
            if not self._supervisor.is_shutting_down():
                return
        except SupervisorError as error:
            logger.warning("workers go on: %s", error)
            return
        for pid in self._worker_pids:
            # A pid from the last look may be another process by now, but then hardly our sibling.
            if _parent_of(pid) == os.getppid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def _look(self) -> Seen:
        present = find_mdts(self._config.mdt_watch_glob)
        if present.unreadable:
            self._errors.failed("mdt_watch_glob", f"{'; '.join(present.unreadable)}; running workers are kept")
        else:
            self._errors.worked("mdt_watch_glob")
        for remark in present.remarks:
            if remark not in self._remarked:
                logger.warning("%s", remark)
        self._remarked = set(present.remarks)
        running = worker_programs(self._supervisor.programs())
        self._worker_pids = tuple(program.pid for program in running.values() if program.pid)
        return Seen(
            wanted=programs_for(present.mdts),
            complete=not present.unreadable,
            written=self._files.written(),
            running=running,
            stored=stored_mdts(self._config.state_path),
        )

    def _act(self, plan: Plan, seen: Seen) -> float:
        leaving = [mdt for mdt in plan.remove if not self._try(mdt, self._remove)]
        forgetting = [mdt for mdt in plan.forget if not self._try(mdt, self._forget)]
        for mdt in plan.restart:
            self._try(mdt, self._restart)
        if plan.add:  # last: where supervisord cannot read its files again, none is added
            self._add({mdt: seen.wanted[mdt] for mdt in plan.add})
        if leaving:
            return _LEAVING_S
        # What was removed is looked at once more, so that its state is forgotten now and not a poll later.
        if plan.remove:
            return 0.0
        settled = is_settled(seen.running) and not (plan.add or plan.restart or forgetting)
        return self._config.poll_interval_s if settled else _UNSETTLED_S

    def _tell_watching(self, seen: Seen) -> None:
        """Once everything that was seen has been acted on: whoever waits for the start may go on."""
        count = len(seen.wanted)
        text = f"watching {count} MDT{'' if count == 1 else 's'}"
        if not seen.complete:
            text += ", and perhaps more: a folder cannot be read, see the log"
        if text != self._told_watching:
            self._supervisor.tell_watching(text)
            self._told_watching = text

    def _try(self, mdt: str, action: Callable[[str], bool]) -> bool:
        """Do something about one MDT; trouble with it does not keep the others waiting."""
        try:
            done = action(mdt)
        except (NotRunning, ControlLost, ShuttingDown):
            raise  # trouble with everything
        except HsmError as error:
            self._errors.failed(mdt, error)
            return False
        self._errors.worked(mdt)
        return done

    def _add(self, programs: Mapping[str, str]) -> None:
        self._files.write(programs)
        self._supervisor.add(WORKER_PREFIX + mdt for mdt in programs)
        for mdt in programs:
            logger.info("%s is on this server: worker started", mdt)

    def _remove(self, mdt: str) -> bool:
        self._files.remove(mdt)
        removed = self._supervisor.stop_and_remove(WORKER_PREFIX + mdt)
        if removed:
            logger.info("%s: worker stopped", mdt)
        return removed

    def _restart(self, mdt: str) -> bool:
        logger.info("%s: worker has ended, starting it again", mdt)
        self._supervisor.start(WORKER_PREFIX + mdt)
        return True

    def _forget(self, mdt: str) -> bool:
        forgotten = forget(self._config.state_path, mdt)
        if forgotten:
            logger.info("%s is not on this server: its state is removed, its stream left as it is", mdt)
        return forgotten


def worker_programs(programs: Mapping[str, Program]) -> dict[str, Program]:
    """Those of supervisord's programs that are workers, by MDT."""
    return {
        name.removeprefix(WORKER_PREFIX): program
        for name, program in programs.items()
        if name.startswith(WORKER_PREFIX)
    }


def _parent_of(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(status.rpartition(b")")[2].split()[1])  # the name in parentheses may hold anything


def run(config: Config) -> None:
    """Step until a stop signal."""
    stop = StopSignal()
    discovery = Discovery(config)
    cadence = Cadence(config.poll_interval_s)
    lateness = Lateness(logger, "looks at MDTs", "is supervisord slow, or a folder of mdt_watch_glob?")
    logger.info("watching %s every %g s", config.mdt_watch_glob, config.poll_interval_s)
    while not cadence.wait(stop, at_most_s=discovery.step()):
        lateness.look(cadence)
        note_look(config.run_path, DISCOVERY)
    discovery.stop_workers()


def main() -> int:
    """Entry point of `python -m hsm_shipper.supervision.discovery`; 1 with one line of error if it cannot begin."""
    return run_program("discovery", command_line("hsm_shipper.supervision.discovery").parse_args().config, run)


if __name__ == "__main__":
    sys.exit(main())
