"""Fixtures of the acceptance tests: metadata servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.shipper import MetadataServer
from tests.acceptance.site import SimulatedServer
from tests.conftest import PrivateServer
from tests.servers import RedisServer

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
def server(redis_server: RedisServer, redis_db: int) -> Iterator[MetadataServer]:
    """A metadata server without MDTs; its shipper is not started."""
    server = MetadataServer(redis_server.port, redis_db)
    yield server
    server.close()


@pytest.fixture
def good_server(private_server: PrivateServer) -> Iterator[MetadataServer]:
    """A metadata server on whose Redis nothing is to be found fault with."""
    server = MetadataServer(private_server(appendonly="yes").port)
    yield server
    server.close()
