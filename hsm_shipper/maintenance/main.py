"""The maintenance program: keeps the streams of this server's MDTs true and short, on a schedule.

Like discovery it compares what is there with what it keeps, every poll, and may be restarted at any time. Run by
supervisord as `python -m hsm_shipper.maintenance.main`; SIGUSR1 runs everything now.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Set
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.contract.trim_bound import length_bound
from hsm_shipper.errors import AlreadyRunning, CalledOff, HsmError, LockHeld, StateError, unexpected
from hsm_shipper.lustre.mdts import find_mdts
from hsm_shipper.maintenance.cycle import CycleResult
from hsm_shipper.maintenance.due_times import in_words, times_missed, trigger_of
from hsm_shipper.maintenance.length_watch import LengthWatch
from hsm_shipper.maintenance.run import MaintenanceRun
from hsm_shipper.maintenance.scheduler import Scheduler
from hsm_shipper.process import log
from hsm_shipper.process.cadence import Cadence
from hsm_shipper.process.last_look import note_look
from hsm_shipper.process.lateness import Lateness
from hsm_shipper.process.memory import return_large_blocks
from hsm_shipper.process.program import command_line, run_program
from hsm_shipper.process.stop_signal import StopSignal
from hsm_shipper.state.forget import stored_mdts
from hsm_shipper.state.maintenance_log import RecordedRun, last_runs
from hsm_shipper.state.poll_status import read_poll_status, state_file
from hsm_shipper.state.rows import is_filled
from hsm_shipper.stream.connection import Clients, address
from hsm_shipper.stream.maintenance_lock import TTL_S

_log = logging.getLogger(__name__)

MAINTENANCE = "maintenance"
RUN_NOW = signal.SIGUSR1
RETRY_AFTER_FAILURE_S = 300.0
_SHORTEST_RETRY_S = 1.0
# What was marked for refresh is appended by the next poll, which may have begun already; then it can be trimmed.
_POLLS_TO_REFRESH = 2


class Maintenance:
    """The maintenance of one server's MDTs; `step` looks once and does what is to be done."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clients = Clients(config)
        self._errors = log.RepeatedErrors(_log)
        self._stopping = threading.Event()
        self._actions: dict[str, Path] = {}
        self._refreshing: set[str] = set()
        self._growth = LengthWatch(config.poll_interval_s)
        self._jobs = Scheduler(self._run, partial(trigger_of, config))

    def step(self) -> None:
        """Maintain the MDTs that are here, and no others; run what cannot wait."""
        owned = self._owned()
        kept = self._jobs.mdts()
        for mdt in kept - owned:
            self._jobs.remove(mdt)
            _log.info("%s is not maintained here any more", mdt)
            self._growth.forget(mdt)
            self._errors.forget(mdt)
            self._refreshing.discard(mdt)
        arrived = set(filter(self._is_filled, owned - kept))
        if arrived:
            self._begin(arrived)
        self._run_too_long(owned & self._jobs.mdts())
        self._jobs.look_at_the_clock()

    def run_all(self) -> None:
        """Run every MDT's maintenance now, one after another."""
        mdts = self._jobs.mdts()
        _log.info("maintenance of %d MDTs is asked for: it runs now", len(mdts))
        self._jobs.run_soon(sorted(mdts))

    def stop(self) -> None:
        """End the run that goes on, safely and soon, and wait for that."""
        self._stopping.set()
        self._jobs.stop()
        self._clients.close()

    def _owned(self) -> Set[str]:
        """The MDTs on this server that have a state file. Where a folder cannot be read, those in it stay."""
        present = find_mdts(self._config.mdt_watch_glob)  # what is odd about it is discovery's to say
        self._actions = self._actions | present.mdts if present.unreadable else present.mdts
        return self._actions.keys() & stored_mdts(self._config.state_path)

    def _is_filled(self, mdt: str) -> bool:
        """Whether its worker has been in the stream: before that a run, as of one that was missed, could but fail."""
        try:
            return is_filled(state_file(self._config.state_path, mdt))
        except StateError:
            return False  # its worker is about to migrate it or to make it anew, and status tells

    def _begin(self, mdts: Set[str]) -> None:
        for mdt in sorted(mdts):
            due = self._jobs.add(mdt)
            _log.info("%s is maintained from now on, next at %s UTC", mdt, f"{due:%Y-%m-%d %H:%M:%S}")
        try:
            last = last_runs(self._config.state_path, completed=True)
        except StateError as error:
            _log.warning("what was missed while maintenance did not run is not known: %s", error)
            return
        for mdt in sorted(mdts & last.keys()):
            run = last[mdt]
            self._note_run(run)
            begun = datetime.fromtimestamp(run.started_at, UTC)
            if times_missed(trigger_of(self._config, mdt), begun, datetime.now(UTC)):
                _log.info("%s: a maintenance run was missed: it runs now", mdt)
                self._jobs.run_soon([mdt])

    def _run_too_long(self, mdts: Set[str]) -> None:
        """Run maintenance where a stream has grown too long to wait for its time."""
        for mdt, length in self._lengths(sorted(mdts)).items():
            if length <= self._growth.limit(mdt, 0) or not self._growth.may_run(mdt, time.monotonic()):
                continue
            if self._jobs.is_coming(mdt):
                continue
            try:
                status = read_poll_status(state_file(self._config.state_path, mdt))
            except StateError:
                continue  # its worker is about to make it anew, and status tells
            if status is None:
                continue  # its worker has not polled yet
            limit = self._growth.limit(mdt, status.live)
            if length > limit:
                _log.info("%s: the stream has %d entries, more than %d: maintenance runs now", mdt, length, limit)
                self._jobs.run_soon([mdt])

    def _lengths(self, mdts: list[str]) -> dict[str, int]:
        """How many entries each stream has; those that Redis does not tell are left out."""
        asked: dict[redis.Redis, list[str]] = {}
        for mdt in mdts:
            asked.setdefault(self._clients.of(stream_key(self._config.redis_stream_prefix, mdt)), []).append(mdt)
        replies: dict[str, Any] = {}
        for client, its in asked.items():
            replies |= zip(its, self._ask_lengths(client, its), strict=True)
        refused = [reply for reply in replies.values() if isinstance(reply, redis.RedisError)]
        if refused:
            self._errors.failed("Redis", f"cannot look at the streams at {address(self._config)}: {refused[0]}")
        elif replies:
            self._errors.worked("Redis")
        return {mdt: length for mdt, length in replies.items() if isinstance(length, int)}

    def _ask_lengths(self, client: redis.Redis, mdts: list[str]) -> list[Any]:
        """The lengths of the streams, in their order; an error for each that is not told."""
        keys = [stream_key(self._config.redis_stream_prefix, mdt) for mdt in mdts]
        try:
            if len(keys) == 1:
                return [client.xlen(keys[0])]
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.xlen(key)
            return pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            return [error] * len(mdts)
        finally:
            # It only reads: no answer would tell that its name means another server by now.
            client.connection_pool.disconnect()

    def _run(self, mdt: str) -> None:
        """In a thread: one run, and what follows from how it went."""
        actions = self._actions.get(mdt)
        if actions is None:
            return  # it left while the run waited for its turn
        try:
            result = MaintenanceRun(self._config, mdt, actions, self._stopping.is_set)()
        except CalledOff as reason:
            _log.info("%s", reason)
        except AlreadyRunning as error:
            held = error.retry_after_s if isinstance(error, LockHeld) else TTL_S
            self._retry(mdt, held, f"{error}: skipped")
        except HsmError as error:
            self._errors.failed(mdt, f"{mdt}: maintenance failed: {error}")
            self._jobs.run_soon([mdt], RETRY_AFTER_FAILURE_S)
        except Exception as error:  # noqa: BLE001 - APScheduler would say it, and try again in hours
            self._errors.failed(mdt, unexpected(f"{mdt}: maintenance failed", error))
            self._jobs.run_soon([mdt], RETRY_AFTER_FAILURE_S)
        else:
            self._errors.worked(mdt)
            self._after(result)

    def _retry(self, mdt: str, delay_s: float, reason: str) -> None:
        delay_s = max(delay_s, _SHORTEST_RETRY_S)
        _log.info("%s: %s, tried again in %.0f s", mdt, reason, delay_s)
        self._jobs.run_soon([mdt], delay_s)

    def _after(self, result: CycleResult) -> None:
        mdt = result.mdt
        _log.info("%s", result)
        self._note_run(result)
        follows_refresh = mdt in self._refreshing
        self._refreshing.discard(mdt)
        too_long = result.entries - result.trimmed > length_bound(result.live)
        if result.refreshed and too_long and not follows_refresh:
            self._refreshing.add(mdt)
            self._jobs.run_soon([mdt], _POLLS_TO_REFRESH * self._config.poll_interval_s)

    def _note_run(self, run: CycleResult | RecordedRun) -> None:
        self._growth.ran(
            run.mdt,
            kept=(run.entries or 0) - (run.trimmed or 0),
            live=run.live or 0,
            refreshed=run.refreshed or 0,
            length=run.length or 0,
            now=time.monotonic(),
        )


def run(config: Config) -> None:
    """Maintain until a stop signal."""
    return_large_blocks()
    stop = StopSignal()
    maintenance = Maintenance(config)
    threading.Thread(target=_obey, args=[maintenance], name="signals", daemon=True).start()
    cadence = Cadence(config.poll_interval_s)
    lateness = Lateness(_log, "looks at streams", "is Redis slow?")
    _log.info("maintaining streams %s", in_words(config))
    maintenance.step()
    while not cadence.wait(stop):
        lateness.look(cadence)
        note_look(config.run_path, MAINTENANCE)
        maintenance.step()
    maintenance.stop()
    _log.info("stopped")


def _obey(maintenance: Maintenance) -> None:
    while True:
        signal.sigwait({RUN_NOW})
        try:
            maintenance.run_all()
        except Exception as error:  # noqa: BLE001 - the next one who asks may have more luck
            _log.error("%s", unexpected("maintenance was asked for and could not be begun", error))


def main() -> int:
    """Entry point of `python -m hsm_shipper.maintenance.main`; 1 with one line of error if it cannot begin."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {RUN_NOW})  # until it is waited for; else it ends this process
    return run_program(MAINTENANCE, command_line("hsm_shipper.maintenance.main").parse_args().config, run)


if __name__ == "__main__":
    sys.exit(main())
