"""Fixtures of the integration tests: clients whose wire may break, one MDT with its poller, and its state file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.line_index import LineIndex
from tests.faults.world import World
from tests.support.core import OneMdt, Opener, Wire, shipper_client
from tests.support.dashboard_driver import A, B
from tests.support.dashboards import Streams
from tests.support.servers import RedisServer
from tests.support.stats_runs import MDT1, Site


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
def cache(path: Path) -> Iterator[StateFile]:
    """An open state file."""
    opened = StateFile(path)
    opened.load(LineIndex)
    yield opened
    opened.close()


@pytest.fixture
def site(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[Site]:
    """An empty database for the reports on it."""
    site = Site(redis_server, redis_db, tmp_path)
    yield site
    site.end()


@pytest.fixture
def filled(site: Site) -> Site:
    """Two MDTs: one archive that ended, one that runs and a failed restore; a removal. One worker of two is alive."""
    site.add(1, ago=4500)
    site.add(1, "STARTED", "UPDATE", ago=4500, after=20)
    site.add(1, "SUCCEED", "UPDATE", ago=4500, after=90)
    site.add(2, ago=100)
    site.add(2, "STARTED", "UPDATE", ago=100, after=40)
    site.add(3, ago=50, action="RESTORE")
    site.add(3, "FAILED", "UPDATE", ago=50, after=30, action="RESTORE")
    site.add_raw(b"no event")
    site.add(1, ago=700, mdt=MDT1, action="REMOVE")
    site.beat()
    return site


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    """The streams of two MDTs for the dashboard, and their heartbeats."""
    streams = Streams(redis_server, redis_db)
    streams.new(A, range(5))
    streams.new(A, range(5, 8), "STARTED", action="RESTORE", first_seen=int(time.time()) - 3960)
    streams.new(B, range(3), "FAILED")
    streams.beat(A)
    streams.beat(B, host="mds2")
    return streams


@pytest.fixture
def world(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[World]:
    """Two servers, one MDT and its stream, in this process."""
    with redis_server.client(redis_db) as client:
        world = World(client, tmp_path)
        yield world
        world.close()
