"""An MDT with a long list, for every subject that needs one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import redis

from benchmarks.child import Child
from hsm_shipper.contract.redis_keys import DEFAULT_PREFIX, stream_key
from tests.simulator import (
    CANCELED,
    FAILED,
    STARTED,
    SUCCEED,
    WAITING,
    SimulatedMds,
    SimulatedMdt,
    populate,
)
from tests.support.servers import RedisServer

_MDT = "elm-MDT0000"
_REDIS_DB = 1
# A change of every status, so that any record can change at any time, and again.
_NEXT_STATUS = {WAITING: STARTED, STARTED: WAITING, SUCCEED: FAILED, FAILED: CANCELED, CANCELED: SUCCEED}


class LongList:
    """A long list, and what its worker and its floors need."""

    key = stream_key(DEFAULT_PREFIX, _MDT)
    set_aside_key = f"copy:{key}"
    """Where `maintenance` keeps the stream as it was."""

    def __init__(self, folder: Path, server: RedisServer, lines: int, **more: object) -> None:
        """`more` are further keys of its configuration."""
        self.client: redis.Redis = server.client(_REDIS_DB)
        self.lines = lines
        self._state_dir = folder / "state"
        self._config = folder / "hsm-shipper.yaml"
        keys = {"redis_url": f"{server.url}/{_REDIS_DB}", "state_dir": str(self._state_dir), "host": "mds1"} | more
        self._config.write_text(json.dumps(keys))  # JSON is YAML
        self._mdt = SimulatedMdt(_MDT)
        populate(self._mdt, lines)
        self._mds = SimulatedMds(folder / "mds")
        self._actions = self._mds.actions_path(_MDT)
        self._mdt.mount(self._mds)

    def worker(self) -> Child:
        """A process that polls it, as the worker's does."""
        return Child("benchmarks.poll_child", self._config, _MDT, self._actions)

    def catching_up(self) -> Child:
        """A process that loses its state and catches up with the stream, as the worker's does."""
        return Child("benchmarks.catch_up_child", self._config, _MDT)

    def reading(self) -> Child:
        """The floor of a poll without much change."""
        return Child("benchmarks.floors", "reading", self._actions)

    def reading_entries(self, key: str) -> Child:
        """The floor of everything that replays the stream under `key`."""
        return Child("benchmarks.floors", "entries", self._config, key)

    def stats(self) -> Child:
        """A process that reports on the streams, as `hsm-stream-stats` does."""
        return Child("benchmarks.stats_child", self._config)

    def command(self, name: str, *options: str) -> Child:
        """A process that runs the command of a tool, `stats` or `top`."""
        return Child("benchmarks.command_child", name, self._config, *options)

    def copy_stream(self, copies: int) -> None:
        """Have so many more MDTs whose streams say what its stream says."""
        for number in range(1, copies + 1):
            self.client.copy(self.key, f"{self.key[:-4]}{number:04x}")

    def maintenance(self) -> Child:
        """A process that maintains its stream, restored before each run from what it is now."""
        return Child("benchmarks.cycle_child", self._config, _MDT)

    def pipeline(self) -> Child:
        """The floor of the first ship, of which the stream must be there."""
        return Child("benchmarks.floors", "pipeline", self._config, _MDT)

    def forget_all(self) -> None:
        """No stream and no state; the list is whole."""
        self.client.flushdb()
        self.forget_state()
        self._mdt.write()

    def forget_state(self) -> None:
        """No state file, as on a server that the MDT has just come to."""
        shutil.rmtree(self._state_dir, ignore_errors=True)
        self._state_dir.mkdir()

    def change(self, step: int, first: int = 0, stop: int | None = None) -> int:
        """Give every `step`-th record another status, from `first` on and before `stop`; returns how many."""
        records = self._mdt.records()[first:stop:step]
        for record in records:
            self._mdt.set_status(record, _NEXT_STATUS[record.status])
        self._mdt.write()
        return len(records)

    def empty(self) -> None:
        """Show a listing without a line."""
        self._mds.write_actions(_MDT, [])
