"""What a site ships to: one server behind a proxy, a service of Sentinels, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.support.clusters import RedisCluster
from tests.support.sentinels import SERVICE, SentinelService
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S
from tests.torture.proxy import Proxy

SERVER, SENTINELS, CLUSTER = "one server", "Sentinels", "a cluster"
# What is acknowledged is on the replica too: whatever fails over then, nothing that was acknowledged is lost.
_KEPT: dict[str, object] = {"redis_wait_replicas": 1, "redis_wait_timeout": 2}
# Nodes of a busy machine are silent for a second, and are not to fail over for that.
_NODE_TIMEOUT_MS = 5000


class Broker(Protocol):
    """One of them, started."""

    name: str
    keys: dict[str, object]
    """How a configuration names it."""
    url: str
    """How it is named by who reads only, from elsewhere."""
    client: Any
    """Asks whichever server has what is asked for."""

    def close(self) -> None:
        """End it."""


class OneServer:
    """A server whose log is on its disk before it answers, and a proxy that shippers reach it by."""

    name = SERVER

    def __init__(self, folder: Path, seed: int) -> None:
        self.server = RedisServer(folder / "redis", {"appendonly": "yes", "appendfsync": "always"}).start()
        self.proxy = Proxy(self.server, seed)
        self.keys: dict[str, object] = {"redis_host": "127.0.0.1", "redis_port": self.proxy.port, "redis_db": 0}
        self.url = f"{self.server.url}/0"
        self.client: Any = self.server.client()

    def close(self) -> None:
        """End it."""
        self.proxy.close()
        self.server.kill()


class Sentinels:
    """A primary, its replica, three Sentinels."""

    name = SENTINELS

    def __init__(self, folder: Path, seed: int) -> None:
        self.service = SentinelService(folder / "service", options={"appendonly": "yes"}).start()
        self.url = self.service.url
        self.keys: dict[str, object] = {"redis_url": self.url, **_KEPT}
        addresses = [(sentinel.host, sentinel.port) for sentinel in self.service.sentinels]
        make: Any = Sentinel  # redis-py does not type it
        finder = make(addresses, sentinel_kwargs={"protocol": 2}, **_patient())
        self.client: Any = finder.master_for(SERVICE)

    def close(self) -> None:
        """End it."""
        self.service.kill()


class Cluster:
    """Three primaries, each with a replica."""

    name = CLUSTER

    def __init__(self, folder: Path, seed: int) -> None:
        self.cluster = RedisCluster(folder / "cluster", {"cluster-node-timeout": str(_NODE_TIMEOUT_MS)})
        self.url = self.cluster.url
        self.keys: dict[str, object] = {"redis_url": self.url, **_KEPT}
        first = self.cluster.nodes[0]
        self.client: Any = redis.RedisCluster(first.host, first.port, **_patient())

    def close(self) -> None:
        """End it."""
        self.cluster.kill()


_MAKERS: dict[str, Callable[[Path, int], Broker]] = {SERVER: OneServer, SENTINELS: Sentinels, CLUSTER: Cluster}
# Most of what can happen to a server needs no more than one.
_TURNS = (SERVER, SENTINELS, CLUSTER, SERVER, SERVER)


def start_broker(name: str, folder: Path, seed: int) -> Broker:
    """Start the one of that name."""
    return _MAKERS[name](folder, seed)


def brokers_of(sites: int, wanted: Collection[str]) -> list[str]:
    """Which broker each of so many sites has, of those that are `wanted`."""
    turns = [name for name in _TURNS if name in wanted]
    return [turns[number % len(turns)] for number in range(sites)]


def _patient() -> dict[str, Any]:
    return {"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": DEADLINE_S}
