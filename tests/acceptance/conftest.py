"""Fixtures of the acceptance tests: metadata servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.shipper import MetadataServer
from tests.conftest import PrivateServer
from tests.servers import RedisServer


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
