"""Which Redis server a reader asks: from its arguments, or from a configuration."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_address import RedisAddress
from hsm_shipper.errors import ConfigError
from hsm_shipper.stream.cluster_map import ClusterNodes
from hsm_shipper.stream.connection import client_kwargs, sentinel_finder
from hsm_shipper.stream.sentinel import find_by
from hsm_tools.reader.replica import ReplicaLog, ReplicaState, replica_state
from hsm_tools.reader.step_runner import StepRunner

if TYPE_CHECKING:
    import redis.asyncio

    from hsm_tools.reader.batches import EventReading
    from hsm_tools.reader.step_runner_aio import AsyncStepRunner

T = TypeVar("T", bound="redis.Redis | redis.asyncio.Redis")

# With `block_ms`, a server that no longer answers holds up a None for no longer than this.
_SHORTEST_TIMEOUT_S = 2.0


class Server:
    """Makes clients of one server, or of the nodes of a cluster; nothing is sent by making one."""

    def __init__(self, config: Config, redis_kwargs: dict[str, Any], *, from_primary: bool = False) -> None:
        """`redis_kwargs` are further ones of redis-py. Raises `ConfigError`, or redis-py's `TypeError`."""
        self._kwargs = client_kwargs(config, redis_kwargs)
        self.address = str(_named(config.redis_address, redis_kwargs))
        """Where it is, for messages."""
        self._cluster = config.redis_address if config.redis_address.is_cluster else None
        if self._cluster and redis_kwargs.get("unix_socket_path"):
            raise ConfigError("unix_socket_path: a cluster has no socket", "leave it out, or redis_url")
        self._reading = sentinel_finder(config, self._kwargs, "primary" if from_primary else config.read_from)
        self._writing = sentinel_finder(config, self._kwargs)
        self.may_read_replica = self._reading is not None and self._reading.read_from == "replica"
        """Whether what is read may be older than what the primary says."""
        if self._reading is not None:
            self._reading.on_replica = ReplicaLog().connected
        redis.Redis(**self._kwargs).close()  # an unknown argument is an error now, not at the first event

    @classmethod
    def from_arguments(
        cls, host: str | None, port: int | None, db: int | None, url: str | None, redis_kwargs: dict[str, Any]
    ) -> Server:
        """What the arguments of a reader name; those left out are as in a configuration without them."""
        if "connection_pool" in redis_kwargs:
            raise ValueError("connection_pool: the reader makes its own; give host, port and the like")
        given = {"redis_host": host, "redis_port": port, "redis_db": db}
        named: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if url is not None and named:
            raise ConfigError("redis_url names the server already", "leave host, port and db out")
        return cls(Config(redis_url=url, **named), redis_kwargs)

    @classmethod
    def from_config(cls, config: Config, *, from_primary: bool = False) -> Server:
        """The server that a configuration names."""
        return cls(config, {}, from_primary=from_primary)

    @property
    def is_cluster(self) -> bool:
        """Whether streams may lie on several nodes: what is done to more than one of them is no transaction."""
        return self._cluster is not None

    def runner(self, block_s: float, reading: EventReading | None = None, *, writes: bool = False) -> StepRunner:
        """What does the steps of a reading that is to be told of silence every `block_s` seconds.

        It talks to primaries if it `writes`; else to what the configuration says.
        """
        if self._cluster is None:
            return StepRunner(self.client(block_s, writes=writes), reading)
        from hsm_tools.reader.cluster_runner import ClusterRunner

        return ClusterRunner(ClusterNodes(self._cluster), self._reader_kwargs(block_s), reading)

    def async_runner(
        self, block_s: float, reading: EventReading | None = None, *, writes: bool = False
    ) -> AsyncStepRunner:
        """The same for asyncio."""
        if self._cluster is None:
            from hsm_tools.reader.step_runner_aio import AsyncStepRunner

            return AsyncStepRunner(self.async_client(block_s, writes=writes), reading)
        from hsm_tools.reader.cluster_runner_aio import AsyncClusterRunner

        return AsyncClusterRunner(ClusterNodes(self._cluster), self._async_kwargs(block_s), reading)

    def client(self, block_s: float, *, writes: bool = False) -> redis.Redis:
        """The client of such a runner, where it is one server."""
        client = _with_plain_replies(redis.Redis(**self._reader_kwargs(block_s)))
        finder = self._writing if writes else self._reading
        if finder is not None:
            find_by(finder, client)
        return client

    def async_client(self, block_s: float, *, writes: bool = False) -> redis.asyncio.Redis:
        """The same for asyncio."""
        import redis.asyncio

        client = _with_plain_replies(redis.asyncio.Redis(**self._async_kwargs(block_s)))
        finder = self._writing if writes else self._reading
        if finder is not None:
            from hsm_tools.reader import sentinel_aio

            sentinel_aio.find_by(finder, client)
        return client

    def replica_state(self, info: Any) -> ReplicaState | None:
        """The replica that is read from, as the reply to INFO replication tells; None where it is the primary."""
        return replica_state(None if self._reading is None else self._reading.connected_to, info)

    def reply_timeout_s(self, block_s: float) -> float:
        """How long such a client waits for a reply."""
        return self._reader_kwargs(block_s).get("socket_timeout") or math.inf

    def _reader_kwargs(self, block_s: float) -> dict[str, Any]:
        kwargs = self._kwargs | {"decode_responses": False}
        for name in ("socket_timeout", "socket_connect_timeout"):
            if kwargs.get(name) is not None:
                kwargs[name] = min(kwargs[name], max(_SHORTEST_TIMEOUT_S, block_s))
        return kwargs

    def _async_kwargs(self, block_s: float) -> dict[str, Any]:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        kwargs = self._reader_kwargs(block_s)
        if isinstance(kwargs["retry"], redis.retry.Retry):
            kwargs["retry"] = Retry(NoBackoff(), 0)
        return kwargs


def _with_plain_replies(client: T) -> T:
    """Replies as they were sent: half the cost, and one shape."""
    client.response_callbacks.clear()
    return client


def _named(address: RedisAddress, redis_kwargs: dict[str, Any]) -> RedisAddress:
    """`address`, as redis-py's own arguments change it."""
    socket = redis_kwargs.get("unix_socket_path")
    if socket is not None:
        return replace(address, scheme="unix", nodes=(), socket_path=str(socket))
    if redis_kwargs.get("ssl") and not address.is_tls:
        return replace(address, scheme=f"rediss{address.scheme.removeprefix('redis')}")
    return address
