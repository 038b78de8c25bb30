"""kill -9 of everything, again and again, while actions change: the stream ends up true and never lied."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.simulator import SimulatedMdt, Workload, populate
from tests.support.servers import RedisServer
from tests.support.site import SimulatedServer, is_true, verdict
from tests.support.waiting import eventually

MDT = "elm-MDT0000"


@pytest.fixture
def broker(private_server: Callable[..., RedisServer]) -> RedisServer:
    """A server that loses nothing of what it has acknowledged, also when it is killed."""
    return private_server(appendonly="yes", appendfsync="always")


@pytest.fixture
def server(broker: RedisServer) -> Iterator[SimulatedServer]:
    """A metadata server on that broker."""
    server = SimulatedServer(broker, 0)
    yield server
    server.close()


def _kill_something(rng: random.Random, server: SimulatedServer, broker: RedisServer) -> None:
    victim = rng.choice(["worker", "worker", "worker", "discovery", "supervisord", "everything", "redis"])
    if victim == "redis":
        broker.kill()
        broker.start()
        return
    programs = server.programs()
    pids = {
        "worker": [program.pid for name, program in programs.items() if name.startswith("mdt-")],
        "discovery": [program.pid for name, program in programs.items() if name == "discovery"],
        "supervisord": [server.pid],
        "everything": list(server.processes()),
    }[victim]
    for pid in filter(None, pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if victim in ("supervisord", "everything"):
        server.stop(signal.SIGKILL)
        eventually(lambda: not server.processes())
        server.start()


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_anything_at_any_time(server: SimulatedServer, broker: RedisServer, seed: int) -> None:
    rng = random.Random(seed)
    mdt = SimulatedMdt(MDT, seed=seed)
    populate(mdt, 3000)
    workload = Workload(mdt, arrivals_per_s=10)
    mdt.mount(server.mds)
    server.start()
    for _ in range(12):
        workload.advance(20)
        mdt.write()
        eventually(lambda: server.is_running(MDT))
        _kill_something(rng, server, broker)
    server.wait_running(MDT)
    server.wait_polled(mdt)
    with broker.client() as client:
        told = verdict(client, mdt)
        assert told.complaints == []
        assert told.malformed == 0
        assert is_true(client, mdt)
