"""Drives the steps of the readers' logic with a client of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, TypeVar

import redis

from hsm_shipper.stream.connection_age import ConnectionAge
from hsm_shipper.stream.one_server import greet_async
from hsm_tools.reader.batches import EventReading
from hsm_tools.reader.outages import may_be_another_server
from hsm_tools.reader.questions_aio import answered
from hsm_tools.reader.steps import Command, Pause, Pipeline, Request, Steps

T = TypeVar("T")
_PAUSE_STEP_S = 0.5


class AsyncStepRunner:
    """What `step_runner.StepRunner` is for a blocking client."""

    def __init__(self, client: redis.asyncio.Redis, reading: EventReading | None = None) -> None:
        self._client: Any = client
        self._reading = reading
        self._age = ConnectionAge()
        settings = client.connection_pool.connection_kwargs
        greeting = settings.get("redis_connect_func")

        async def connected(connection: Any) -> None:
            if reading is not None:
                reading.source.reconnected()
            await greet_async(connection, greeting)

        settings["redis_connect_func"] = connected

    async def run(self, steps: Steps[T]) -> T:
        return await answered(steps, self._ask)

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, request: Request) -> Any:
        if self._age.is_over():
            await self._client.connection_pool.disconnect(inuse_connections=False)
        try:
            reply = await self._reply(request)
        except redis.RedisError as error:
            await self._reconsider([error])
            raise
        if isinstance(request, Pipeline):
            await self._reconsider(reply)
        return reply

    async def _reconsider(self, replies: Iterable[Any]) -> None:
        if any(map(may_be_another_server, replies)):
            await self._client.connection_pool.disconnect(inuse_connections=False)

    async def _reply(self, request: Request) -> Any:
        match request:
            case Command(args):
                return await self._client.execute_command(*args)
            case Pipeline(commands, transaction):
                async with self._client.pipeline(transaction) as pipe:
                    for args in commands:
                        pipe.execute_command(*args)
                    return await pipe.execute(raise_on_error=False)
            case Pause(seconds):
                return await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        """Sleep in steps: the reading may be told to end from any thread, which wakes no event loop."""
        while seconds > 0 and not (self._reading and self._reading.ending.is_set()):
            await asyncio.sleep(min(seconds, _PAUSE_STEP_S))
            seconds -= _PAUSE_STEP_S
