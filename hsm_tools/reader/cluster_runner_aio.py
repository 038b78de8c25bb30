"""Drives the steps of the readers' logic with a client of asyncio of each node of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import redis
import redis.asyncio

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.stream.cluster_map import ClusterNodes
from hsm_shipper.stream.connection_age import ConnectionAge
from hsm_tools.reader.batches import EventReading
from hsm_tools.reader.cluster_requests import ClusterRequest, ClusterRequests, NodeCommands, Words
from hsm_tools.reader.outages import may_be_another_server
from hsm_tools.reader.questions_aio import answered
from hsm_tools.reader.step_runner_aio import AsyncStepRunner
from hsm_tools.reader.steps import Request


class AsyncClusterRunner(AsyncStepRunner):
    """What `cluster_runner.ClusterRunner` is for blocking clients."""

    def __init__(self, nodes: ClusterNodes, kwargs: Mapping[str, Any], reading: EventReading | None = None) -> None:
        self._kwargs = kwargs
        self._reading = reading
        self._age = ConnectionAge()
        self._requests = ClusterRequests(nodes, self._changed)
        self._by_node: dict[Node, Any] = {}

    async def close(self) -> None:
        """Close all connections."""
        clients = [*self._by_node.values()]
        self._by_node.clear()
        for client in clients:
            await client.aclose()

    async def _ask(self, request: Request) -> Any:
        if self._age.is_over():
            await self._begin_anew()
        try:
            return await answered(self._requests.answer(request), self._reply_of)
        except redis.RedisError as error:
            if may_be_another_server(error):
                await self._begin_anew()
            raise

    async def _reply_of(self, asked: ClusterRequest) -> Any:
        if isinstance(asked, NodeCommands):
            return await self._ask_nodes(asked.by_node)
        return await self._pause(asked.seconds)

    async def _ask_nodes(self, by_node: Mapping[Node, list[Words]]) -> dict[Node, Any]:
        answers = await asyncio.gather(*(self._ask_node(node, commands) for node, commands in by_node.items()))
        return dict(zip(by_node, answers, strict=True))

    async def _ask_node(self, node: Node, commands: list[Words]) -> list[Any] | redis.RedisError:
        pool = self._client_of(node).connection_pool
        try:
            connection = await pool.get_connection()
        except redis.RedisError as error:
            return error
        found: list[Any] = []
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            while len(found) < len(commands):
                try:
                    found.append(await connection.read_response())
                except redis.ResponseError as error:
                    found.append(error)
        except redis.RedisError as error:
            await connection.disconnect(nowait=True)
            return error
        except BaseException:  # cancelled: an answer that nobody waits for may still come by it
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)
        return found

    def _client_of(self, node: Node) -> Any:
        client = self._by_node.get(node)
        if client is None:
            client = self._by_node[node] = redis.asyncio.Redis(**{**self._kwargs, **node._asdict()})
            settings = client.connection_pool.connection_kwargs
            greeting = settings.get("redis_connect_func")

            async def connected(connection: Any) -> None:
                self._changed()
                done = greeting(connection) if greeting else connection.on_connect()
                if done is not None:
                    await done

            settings["redis_connect_func"] = connected
        return client

    def _changed(self) -> None:
        if self._reading is not None:
            self._reading.source.reconnected()

    async def _begin_anew(self) -> None:
        self._requests.look_again()
        await self.close()
