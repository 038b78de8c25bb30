"""Whether a server that is named by itself has all keys: one node of a cluster has but a part of them.

It would answer a search for streams with those that it has, and a reader would take these for all. Where it is the only
primary it has them all today, and a part tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.contract.stream_ids import text_of

_HELLO = ("HELLO",)


class PartOfCluster(redis.ResponseError):
    """The server is a node of a cluster, and was not named as one."""

    def __init__(self, connection: Any) -> None:
        """`connection` is redis-py's, blocking or of asyncio."""
        host, port = getattr(connection, "host", None), getattr(connection, "port", None)
        node = str(Node(host, port)) if host and port else "HOST:PORT"
        scheme = "rediss" if hasattr(connection, "cert_reqs") else "redis"
        super().__init__("it is one node of a Redis Cluster, and may have but a part of the streams")
        self.hint = f"name the cluster: redis_url: {scheme}+cluster://{node}, with more of its nodes behind commas"


def greet(connection: Any, greeting: Callable[[Any], None] | None = None) -> None:
    """What redis-py says first on a new connection, or `greeting`; raises `PartOfCluster` to a node of a cluster."""
    try:
        if greeting is None:
            connection.on_connect()
        else:
            greeting(connection)
    except redis.ResponseError:  # it has no other database than 0, for instance
        _check(connection)
        raise
    _check(connection)


async def greet_async(connection: Any, greeting: Callable[[Any], Any] | None = None) -> None:
    """The same for asyncio."""
    try:
        if greeting is None:
            await connection.on_connect()
        elif (done := greeting(connection)) is not None:
            await done
    except redis.ResponseError:
        await _check_async(connection)
        raise
    await _check_async(connection)


# HELLO without arguments changes nothing, and every user may say it (https://redis.io/docs/latest/commands/hello/).
def _check(connection: Any) -> None:
    connection.send_command(*_HELLO)
    try:
        told = connection.read_response()
    except redis.ResponseError:
        return  # a proxy does not know it
    _refuse_part(connection, told)


async def _check_async(connection: Any) -> None:
    await connection.send_command(*_HELLO)
    try:
        told = await connection.read_response()
    except redis.ResponseError:
        return
    _refuse_part(connection, told)


def _refuse_part(connection: Any, told: Any) -> None:
    facts = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=False))
    if text_of(facts.get(b"mode") or facts.get("mode") or "") == "cluster":
        raise PartOfCluster(connection)
