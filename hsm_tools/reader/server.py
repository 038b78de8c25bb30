"""Which Redis server a reader asks: from its arguments, or from a configuration."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_address import RedisAddress
from hsm_shipper.errors import ConfigError
from hsm_shipper.stream.connection import client_kwargs, sentinel_finder
from hsm_shipper.stream.sentinel import find_by
from hsm_tools.reader.replica import ReplicaLog, ReplicaState, replica_state

if TYPE_CHECKING:
    import redis.asyncio

# With `block_ms`, a server that no longer answers holds up a None for no longer than this.
_SHORTEST_TIMEOUT_S = 2.0


class Server:
    """Makes clients of one server; nothing is sent by making one."""

    def __init__(self, config: Config, redis_kwargs: dict[str, Any], *, from_primary: bool = False) -> None:
        """`redis_kwargs` are further ones of redis-py. Raises `ConfigError`, or redis-py's `TypeError`."""
        self._kwargs = client_kwargs(config, redis_kwargs)
        self.address = str(_named(config.redis_address, redis_kwargs))
        """Where it is, for messages."""
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

    def client(self, block_s: float, *, writes: bool = False) -> redis.Redis:
        """A client for a reading that is to be told of silence every `block_s` seconds.

        It talks to the primary if it `writes`; else to what the configuration says.
        """
        client: redis.Redis = self._prepared(redis.Redis, self._kwargs, block_s)
        finder = self._writing if writes else self._reading
        if finder is not None:
            find_by(finder, client)
        return client

    def async_client(self, block_s: float, *, writes: bool = False) -> redis.asyncio.Redis:
        """The same for asyncio."""
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        kwargs = self._kwargs
        if isinstance(kwargs["retry"], redis.retry.Retry):
            kwargs = kwargs | {"retry": Retry(NoBackoff(), 0)}
        client: redis.asyncio.Redis = self._prepared(redis.asyncio.Redis, kwargs, block_s)
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
        with self.client(block_s) as client:  # nothing is sent
            return client.connection_pool.connection_kwargs.get("socket_timeout") or math.inf

    def _prepared(self, client_class: Any, kwargs: dict[str, Any], block_s: float) -> Any:
        client = client_class(**kwargs)
        client.response_callbacks.clear()  # replies as they were sent: half the cost, and one shape
        settings = client.connection_pool.connection_kwargs
        settings["decode_responses"] = False
        for name in ("socket_timeout", "socket_connect_timeout"):
            if settings.get(name) is not None:
                settings[name] = min(settings[name], max(_SHORTEST_TIMEOUT_S, block_s))
        return client


def _named(address: RedisAddress, redis_kwargs: dict[str, Any]) -> RedisAddress:
    """`address`, as redis-py's own arguments change it."""
    socket = redis_kwargs.get("unix_socket_path")
    if socket is not None:
        return replace(address, scheme="unix", nodes=(), socket_path=str(socket))
    return replace(address, scheme="rediss") if redis_kwargs.get("ssl") else address
