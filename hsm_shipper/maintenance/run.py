"""One maintenance run on one MDT, under its locks: is its state file sound, the cycle itself, the file's upkeep.

The maintenance program, `hsm-action-shipper maintain` and `--run-once --maintenance-now` all do exactly this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import maintenance_key, stream_key
from hsm_shipper.errors import AlreadyRunning, CalledOff, HsmError, StateCorrupt, StateError
from hsm_shipper.maintenance.cycle import CycleResult, run_cycle
from hsm_shipper.process.memory import return_memory
from hsm_shipper.state.damage import check_for_damage, set_aside
from hsm_shipper.state.database import tidy
from hsm_shipper.state.forget import maintenance_lock_path
from hsm_shipper.state.locks import FileLock
from hsm_shipper.state.maintenance_log import RecordedRun, record
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.stream.connection import address, connect
from hsm_shipper.stream.maintenance_lock import MaintenanceLock
from hsm_shipper.stream.stream import ActionStream

_log = logging.getLogger(__name__)

# What a record keeps of a result.
_COUNTS = (
    "entries",
    "live",
    "orphans",
    "missing",
    "differing",
    "malformed",
    "trimmed",
    "refreshed",
    "length",
)


@dataclass(frozen=True)
class MaintenanceRun:
    """A run on `mdt`, whose actions file is `actions`; `stopping` tells whether this process is to stop."""

    config: Config
    mdt: str
    actions: Path
    stopping: Callable[[], bool]

    def __call__(self) -> CycleResult:
        """Do it, and record what came of it.

        Raises `CalledOff`; `AlreadyRunning` while another run has a lock, `redis_lock.LockHeld` if that is the one in
        Redis; `StateError` and `StreamError` for what failed. Wherever it ends, the next run ends right.
        """
        started_at, begun = time.time(), time.monotonic()
        try:
            with FileLock(maintenance_lock_path(self.config.state_path, self.mdt), f"maintenance of {self.mdt}"):
                try:
                    result = self._locked_here()
                finally:
                    # A parser of redis-py holds itself, with the buffer of its connection, and the collector looks
                    # seldom here: this process makes some for each run, and would grow for days. And before anything is
                    # recorded, which imports sqlite-utils at times: its objects would keep what a long stream took.
                    return_memory()
        except (CalledOff, AlreadyRunning):
            raise
        except HsmError as error:
            self._record(started_at, begun, error=str(error))
            raise
        self._record(started_at, begun, **{name: getattr(result, name) for name in _COUNTS})
        return result

    def _locked_here(self) -> CycleResult:
        # Under the lock, for discovery removes the file of an MDT that has left.
        state_path = state_file(self.config.state_path, self.mdt)
        self._look()
        if not state_path.exists():
            raise StateError(f"state file {state_path} is not there yet", "its worker has to poll first")
        prefix = self.config.redis_stream_prefix
        key = stream_key(prefix, self.mdt)
        with connect(self.config, key) as client:
            stream = ActionStream(client, key, address(self.config))
            with MaintenanceLock(client, maintenance_key(prefix, self.mdt), stream, self.config.host) as lock:

                def keep_going() -> None:
                    self._look()
                    lock.keep()

                try:
                    check_for_damage(state_path)
                    result = run_cycle(
                        self.mdt,
                        state_path,
                        stream,
                        aggressive_trim_threshold=self.config.aggressive_trim_threshold,
                        consumer_group_backlog_max=self.config.consumer_group_backlog_max,
                        keep_going=keep_going,
                    )
                except StateCorrupt as damage:
                    raise set_aside(state_path, damage) from damage
        try:
            tidy(state_path)
        except StateError as error:
            _log.warning("%s: %s; it is tried again at the next run", self.mdt, error)
        return result

    def _look(self) -> None:
        if self.stopping():
            raise CalledOff(f"{self.mdt}: maintenance ends here: this process is to stop")
        try:
            self.actions.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise CalledOff(f"{self.mdt}: maintenance ends here: the MDT has left this server") from None
        except OSError:
            return  # not to be seen is not to be gone

    def _record(self, started_at: float, begun: float, **outcome: Any) -> None:
        duration_s = time.monotonic() - begun
        run = RecordedRun(mdt=self.mdt, host=self.config.host, started_at=started_at, duration_s=duration_s, **outcome)
        try:
            record(self.config.state_path, run)
        except HsmError as error:
            _log.warning("%s: this maintenance run cannot be recorded: %s", self.mdt, error)
