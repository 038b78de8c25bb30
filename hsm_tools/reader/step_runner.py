"""Drives the steps of the readers' logic with a blocking client."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, TypeVar

import redis

from hsm_shipper.stream.connection_age import ConnectionAge
from hsm_shipper.stream.one_server import greet
from hsm_shipper.stream.questions import answered
from hsm_tools.reader.batches import EventReading
from hsm_tools.reader.outages import may_be_another_server
from hsm_tools.reader.steps import Command, Pause, Pipeline, Request, Steps

T = TypeVar("T")


class StepRunner:
    """One client, for one thread; `reading` is told of every connection that it makes."""

    def __init__(self, client: Any, reading: EventReading | None = None) -> None:
        self._client = client
        self._ending = threading.Event() if reading is None else reading.ending
        self._age = ConnectionAge()
        settings = client.connection_pool.connection_kwargs
        greeting = settings.get("redis_connect_func")

        def connected(connection: Any) -> None:
            if reading is not None:
                reading.source.reconnected()
            greet(connection, greeting)

        settings["redis_connect_func"] = connected

    def run(self, steps: Steps[T]) -> T:
        """Do what the steps ask for, to their end."""
        return answered(steps, self.ask)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def client_of(self, key: str) -> redis.Redis:  # noqa: ARG002 - one server has all keys
        """A client for replaying the stream `key`."""
        client: redis.Redis = self._client
        return client

    def ask(self, request: Request) -> Any:
        """The reply to one request; raises redis-py's errors, but for those that stand in the reply of a pipeline."""
        if self._age.is_over():
            self._client.connection_pool.disconnect(inuse_connections=False)
        try:
            reply = self._reply(request)
        except redis.RedisError as error:
            self._reconsider([error])
            raise
        if isinstance(request, Pipeline):
            self._reconsider(reply)
        return reply

    def _reply(self, request: Request) -> Any:
        match request:
            case Command(args):
                return self._client.execute_command(*args)
            case Pipeline(commands, transaction):
                with self._client.pipeline(transaction) as pipe:
                    for args in commands:
                        pipe.execute_command(*args)
                    return pipe.execute(raise_on_error=False)
            case Pause(seconds):
                self._ending.wait(seconds)
                return None

    def _reconsider(self, replies: Iterable[Any]) -> None:
        if any(map(may_be_another_server, replies)):
            self._client.connection_pool.disconnect(inuse_connections=False)
