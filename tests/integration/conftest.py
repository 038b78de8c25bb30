"""Fixtures of the integration tests: clients whose wire may break, one MDT with its poller, and its state file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hsm_shipper.cache import Cache
from tests.core import OneMdt, Opener, Wire, shipper_client
from tests.integration.stats_runs import Site
from tests.servers import RedisServer


@pytest.fixture
def wire() -> Wire:
    """What is between `client` and the server."""
    return Wire()


@pytest.fixture
def client(redis_server: RedisServer, redis_db: int, wire: Wire) -> redis.Redis:
    """A client of an empty database, with the settings of the project's own."""
    return shipper_client(redis_server, redis_db, wire)


@pytest.fixture
def opener() -> Opener:
    """What opens the actions file of `mdt`."""
    return Opener()


@pytest.fixture
def mdt(tmp_path: Path, client: redis.Redis, opener: Opener) -> OneMdt:
    """An MDT without actions, on the server mds1."""
    return OneMdt(tmp_path / "mds1", client, opener=opener)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a state file is to be."""
    return tmp_path / "elm-MDT0000.sqlite3"


@pytest.fixture
def cache(path: Path) -> Iterator[Cache]:
    """An open state file."""
    opened = Cache(path)
    opened.load()
    yield opened
    opened.close()


@pytest.fixture
def site(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[Site]:
    """An empty database for the reports on it."""
    site = Site(redis_server, redis_db, tmp_path)
    yield site
    site.end()
