"""Connections of asyncio to a server that Sentinels name: what `stream.sentinel` has for a blocking client."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.stream.questions import Question
from hsm_shipper.stream.sentinel import SentinelFinder
from hsm_tools.reader.questions_aio import answered


class _AsyncSentinelConnection:
    """Put before a connection class of redis-py: it connects to a server that the Sentinels name."""

    def __init__(self, *, finder: SentinelFinder, **kwargs: Any) -> None:
        self._finder = finder
        super().__init__(**kwargs)

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """What redis-py does whenever there is no connection: in `connect`, and where one is lost in use."""
        connection: Any = self  # redis-py's connections are but half typed
        if connection.is_connected:
            return
        failure: redis.RedisError | None = None
        for node in await self._ask_sentinels():
            connection.host, connection.port = node
            try:
                await super().connect_check_health(*args, **kwargs)  # type: ignore[misc]
                self._finder.check_role(node, await _role(connection))
            except (redis.ConnectionError, redis.TimeoutError) as error:
                await connection.disconnect()
                if isinstance(error, redis.AuthenticationError):
                    raise  # a person has to put that right, and another server would only hide it
                failure = failure or self._finder.no_answer(node, error)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            else:
                self._finder.connected_to = node
                return
        assert failure is not None, "there is one candidate at least"
        raise failure

    async def _ask_sentinels(self) -> list[Node]:
        kwargs = dict(self._finder.sentinel_kwargs) | {"retry": Retry(NoBackoff(), 0)}

        async def ask(question: Question) -> Any:
            host, port = question.node
            client: Any
            async with redis.asyncio.Redis(host=host, port=port, **kwargs) as client:
                return await client.execute_command(*question.command)

        return await answered(self._finder.candidates(), ask)


class _AsyncPlainConnection(_AsyncSentinelConnection, redis.asyncio.Connection):
    pass


class _AsyncTlsConnection(_AsyncSentinelConnection, redis.asyncio.SSLConnection):
    pass


def find_by(finder: SentinelFinder, client: redis.asyncio.Redis) -> None:
    """Have all connections of `client` go where `finder` says: with TLS if that is how it was made."""
    pool = client.connection_pool
    has_tls = pool.connection_class is redis.asyncio.SSLConnection
    pool.connection_class = _AsyncTlsConnection if has_tls else _AsyncPlainConnection
    pool.connection_kwargs["finder"] = finder


async def _role(connection: Any) -> Any:
    await connection.send_command("ROLE")
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error
