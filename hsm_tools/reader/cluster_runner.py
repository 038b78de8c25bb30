"""Drives the steps of the readers' logic with a blocking client of each node of a cluster."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import redis

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.stream.cluster import client_of_key
from hsm_shipper.stream.cluster_map import ClusterNodes
from hsm_shipper.stream.connection_age import ConnectionAge
from hsm_shipper.stream.questions import answered
from hsm_tools.reader.batches import EventReading
from hsm_tools.reader.cluster_requests import ClusterRequest, ClusterRequests, NodeCommands, Words
from hsm_tools.reader.outages import may_be_another_server
from hsm_tools.reader.step_runner import StepRunner
from hsm_tools.reader.steps import Request


class ClusterRunner(StepRunner):
    """One connection to each node, for one thread; `reading` is told of every one that is made, and of moved slots.

    `kwargs` are redis-py's for a client of any node.
    """

    def __init__(self, nodes: ClusterNodes, kwargs: Mapping[str, Any], reading: EventReading | None = None) -> None:
        self._nodes = nodes
        self._kwargs = kwargs
        self._reading = reading
        self._ending = threading.Event() if reading is None else reading.ending
        self._age = ConnectionAge()
        self._requests = ClusterRequests(nodes, self._changed)
        self._by_node: dict[Node, redis.Redis] = {}
        self._by_key: dict[str, redis.Redis] = {}

    def close(self) -> None:
        """Close all connections."""
        for client in (*self._by_node.values(), *self._by_key.values()):
            client.close()

    def client_of(self, key: str) -> redis.Redis:
        """A client for replaying the stream `key`."""
        if key not in self._by_key:
            self._by_key[key] = client_of_key(self._nodes, self._kwargs, key)
        return self._by_key[key]

    def ask(self, request: Request) -> Any:
        """The reply to one request; raises redis-py's errors, but for those that stand in the reply of a pipeline."""
        if self._age.is_over():
            self._begin_anew()
        try:
            return answered(self._requests.answer(request), self._reply_of)
        except redis.RedisError as error:
            if may_be_another_server(error):
                self._begin_anew()
            raise

    def _reply_of(self, asked: ClusterRequest) -> Any:
        if isinstance(asked, NodeCommands):
            return self._ask_nodes(asked.by_node)
        self._ending.wait(asked.seconds)
        return None

    def _ask_nodes(self, by_node: Mapping[Node, list[Words]]) -> dict[Node, Any]:
        """Send to all nodes first, and read then."""
        answers: dict[Node, Any] = {}
        waiting: dict[Node, Any] = {}
        try:
            for node, commands in by_node.items():
                try:
                    waiting[node] = connection = self._pool(node).get_connection()
                    connection.send_packed_command(connection.pack_commands(commands))
                except redis.RedisError as error:
                    answers[node] = error
            for node, commands in by_node.items():
                if node not in answers:
                    answers[node] = _replies(waiting[node], len(commands))
            return answers
        finally:
            for node, connection in waiting.items():
                if not isinstance(answers.get(node), list):  # an answer that nobody waits for may still come by it
                    connection.disconnect()
                self._pool(node).release(connection)

    def _pool(self, node: Node) -> Any:
        client = self._by_node.get(node)
        if client is None:
            client = self._by_node[node] = redis.Redis(**{**self._kwargs, **node._asdict()})
            settings = client.connection_pool.connection_kwargs
            greeting = settings.get("redis_connect_func")

            def connected(connection: Any) -> None:
                if self._reading is not None:
                    self._reading.source.reconnected()
                greeting(connection) if greeting else connection.on_connect()

            settings["redis_connect_func"] = connected
        return client.connection_pool

    def _changed(self) -> None:
        if self._reading is not None:
            self._reading.source.reconnected()
        for client in self._by_key.values():
            client.connection_pool.disconnect(inuse_connections=False)

    def _begin_anew(self) -> None:
        """Forget every connection, and where the slots are: a node may have become another's replica."""
        self._requests.look_again()
        for client in (*self._by_node.values(), *self._by_key.values()):
            client.close()
        self._by_node.clear()


def _replies(connection: Any, count: int) -> list[Any] | redis.RedisError:
    """So many replies in their order, errors of the server among them; or the error that kept it from answering."""
    found: list[Any] = []
    for _ in range(count):
        try:
            found.append(connection.read_response())
        except redis.ResponseError as error:
            found.append(error)
        except redis.RedisError as error:
            return error
    return found
