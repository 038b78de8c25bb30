"""Fixtures that several tiers share: real Redis servers, and tails of their streams."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clusters import RedisCluster
from tests.support.servers import RedisServer
from tests.support.tails import Tails, tails_on

PrivateServer = Callable[..., RedisServer]

# How long an example takes is told by what else the machine does.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

_databases = itertools.cycle(range(1, 64))


@pytest.fixture(scope="session", autouse=True)
def signals_heard() -> None:
    """Behind `nohup` or `&` signals are ignored, and every command that a test starts would inherit that."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def signal_mask() -> Iterator[None]:
    """Leaves the signal mask as it was: a `StopSignal` in a test would block signals in every child from then on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests of a pytest worker; they keep apart by `redis_db`, and never stop it."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture
def redis_db(redis_server: RedisServer) -> int:
    """The number of an empty database on `redis_server`."""
    db = next(_databases)
    with redis_server.client(db) as client:
        client.flushdb()
    return db


@pytest.fixture
def tails(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[Tails]:
    """Starts `hsm-stream-tail` on an empty database."""
    with tails_on(redis_server, redis_db, tmp_path) as tails:
        yield tails


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One cluster for all tests of a pytest worker that want one."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.kill()


@pytest.fixture
def cluster(shared_cluster: RedisCluster) -> RedisCluster:
    """Three primaries with a replica each, without a key; a test may kill nodes and move slots."""
    shared_cluster.heal()
    shared_cluster.flush()
    return shared_cluster


@pytest.fixture
def private_server(tmp_path: Path) -> Iterator[PrivateServer]:
    """Makes running servers for this test alone: `private_server(appendonly="yes", maxmemory="4mb")`."""
    servers: list[RedisServer] = []

    def make(**options: str) -> RedisServer:
        settings = {name.replace("_", "-"): value for name, value in options.items()}
        servers.append(RedisServer(tmp_path / f"redis-{len(servers)}", settings))
        return servers[-1].start()

    yield make
    for server in servers:
        server.kill()
