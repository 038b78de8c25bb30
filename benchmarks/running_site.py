"""The whole shipper under its supervisord on a server with many MDTs, and what is seen of it from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from benchmarks.child import BenchmarkError
from benchmarks.many_lists import LongListing
from benchmarks.processes import cpu_s
from hsm_shipper.contract.heartbeat import Heartbeat, decode
from hsm_shipper.contract.redis_keys import DEFAULT_PREFIX, heartbeat_key
from hsm_shipper.supervision.supervisord import DISCOVERY
from tests.support.servers import RedisServer
from tests.support.site import SimulatedServer

POLL_INTERVAL_S = 20.0  # the default
MAINTENANCE = "maintenance"
_REDIS_DB = 1
_LOOK_INTERVAL_S = 0.5
_START_TIMEOUT_S = 600.0


class Cpu(NamedTuple):
    """Processor seconds so far, by who took them."""

    supervisord: float
    discovery: float
    maintenance: float
    workers: float
    redis: float

    def since(self, before: Cpu) -> Cpu:
        """What was taken since `before`."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


class RunningSite:
    """`mdts` MDTs with a list of `lines` lines each, and the shipper that has shipped all of them."""

    def __init__(self, server: RedisServer, mdts: int, lines: int) -> None:
        self._server = server
        self._site = SimulatedServer(server, _REDIS_DB, poll_interval=POLL_INTERVAL_S)
        self.listings = [LongListing(self._site.mds, number, lines) for number in range(mdts)]
        self.first_ship_s = 0.0
        self.worker_pids: list[int] = []
        self._others: dict[str, int] = {}

    def start(self) -> None:
        """Start it, and wait until every list is shipped and nothing starts any more."""
        begun = time.monotonic()
        self._site.start()
        self._wait(lambda: all(beat is not None and beat.live == beat.lines > 0 for beat in self.heartbeats()))
        self.first_ship_s = time.monotonic() - begun
        self._wait(lambda: {program.state for program in self._site.programs().values()} == {"RUNNING"})
        pids = {name: program.pid for name, program in self._site.programs().items()}
        self._others = {name: pids.pop(name) for name in (DISCOVERY, MAINTENANCE)} | {"supervisord": self._site.pid}
        self.worker_pids = list(pids.values())

    def heartbeats(self) -> list[Heartbeat | None]:
        """What each worker told last."""
        keys = [heartbeat_key(DEFAULT_PREFIX, listing.mdt) for listing in self.listings]
        beats = [beat and decode(beat) for beat in cast(list[Any], self._site.redis.mget(keys))]
        for beat in beats:
            if beat is not None and beat.last_error is not None:
                raise BenchmarkError(f"{beat.mdt}: {beat.last_error}")
        return beats

    def polls(self, duration_s: float) -> Iterator[Heartbeat]:
        """The heartbeats that come within that time, one a poll."""
        end = time.monotonic() + duration_s
        seen = {(beat.mdt, beat.last_poll_at) for beat in self.heartbeats() if beat is not None}
        while time.monotonic() < end:
            time.sleep(_LOOK_INTERVAL_S)
            for beat in self.heartbeats():
                if beat is not None and (beat.mdt, beat.last_poll_at) not in seen:
                    seen.add((beat.mdt, beat.last_poll_at))
                    yield beat

    def cpu(self) -> Cpu:
        """What everybody has taken so far."""
        supervisord, discovery, maintenance = (
            cpu_s([self._others[name]]) for name in ("supervisord", DISCOVERY, MAINTENANCE)
        )
        return Cpu(supervisord, discovery, maintenance, cpu_s(self.worker_pids), cpu_s([self._server.pid]))

    def close(self) -> None:
        """Stop it, and remove what it has left."""
        self._site.redis.flushdb()
        self._site.close()

    def _wait(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not check():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"not started within {_START_TIMEOUT_S:g} s")
            time.sleep(_LOOK_INTERVAL_S)


@contextmanager
def running_site(server: RedisServer, mdts: int, lines: int) -> Iterator[RunningSite]:
    """Everything shipped, in the body; gone behind it."""
    site = RunningSite(server, mdts, lines)
    try:
        site.start()
        yield site
    finally:
        site.close()
