"""Fixtures of the acceptance tests: metadata servers, and an MDT on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import PrivateServer
from tests.simulator import SimulatedMdt, populate
from tests.support.servers import RedisServer
from tests.support.site import LIVE, MDT, SimulatedServer

MakeServer = Callable[..., SimulatedServer]


@pytest.fixture
def make_server(redis_server: RedisServer, redis_db: int) -> Iterator[MakeServer]:
    """Makes metadata servers on one Redis database, `make_server("mds2", include_raw=False)`, or on another `redis`."""
    servers: list[SimulatedServer] = []

    def make(host: str = "mds1", redis: RedisServer = redis_server, **keys: object) -> SimulatedServer:
        servers.append(SimulatedServer(redis, redis_db if redis is redis_server else 0, host, **keys))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(make_server: MakeServer) -> SimulatedServer:
    """A metadata server without MDTs; its shipper is not started."""
    return make_server()


@pytest.fixture
def mdt(server: SimulatedServer) -> SimulatedMdt:
    """An MDT with `LIVE` actions, mounted on `server`."""
    mdt = SimulatedMdt(MDT)
    populate(mdt, LIVE)
    mdt.mount(server.mds)
    return mdt


@pytest.fixture
def polling(server: SimulatedServer, mdt: SimulatedMdt) -> SimulatedServer:
    """`server` with a shipper that has polled `mdt`."""
    server.start_polled(mdt)
    return server


@pytest.fixture
def good_server(make_server: MakeServer, private_server: PrivateServer) -> SimulatedServer:
    """A metadata server on whose Redis nothing is to be found fault with."""
    return make_server(redis=private_server(appendonly="yes"), poll_interval=0.5)
