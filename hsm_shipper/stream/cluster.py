"""A client of the one node of a cluster that has a key: found anew whenever a connection is made, and when it moves.

Stream, heartbeat and lock of an MDT are in one slot, so all that is said about an MDT goes to one node. A node that
has the key no more says where it is (MOVED, or ASK while the slot is on its way), and has done nothing: the same
connection goes there, and asks again. What was read in pages before that is read again from its beginning, as if a
trim had overtaken it: see `PageReader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.stream.cluster_map import (
    MAP_TIMEOUT_S,
    ClusterNodes,
    Redirection,
    SlotMap,
    redirection,
    slot_of,
)
from hsm_shipper.stream.questions import Question, answered

REDIRECTIONS_MAX = 5
"""How often one command is sent elsewhere: more is a cluster whose nodes disagree, and that passes."""

_Connection: Any = redis.Connection  # redis-py's connections are but half typed
_SSLConnection: Any = redis.SSLConnection


class NodeFinder:
    """Finds the node of a slot, by blocking connections. `kwargs` are redis-py's for any node of the cluster."""

    def __init__(self, nodes: ClusterNodes, kwargs: Mapping[str, Any]) -> None:
        self.nodes = nodes
        self._kwargs = map_kwargs(kwargs)

    def slot_map(self) -> SlotMap:
        """Where the slots are now. Raises redis-py's errors."""

        def ask(question: Question) -> Any:
            with redis.Redis(**self._kwargs | question.node._asdict()) as client:
                client.response_callbacks.clear()
                return client.execute_command(*question.command)

        return answered(self.nodes.look(), ask)


def map_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Of redis-py's arguments for a client of a node, those for asking where the slots are."""
    limits = {
        name: min(kwargs.get(name) or MAP_TIMEOUT_S, MAP_TIMEOUT_S)
        for name in ("socket_timeout", "socket_connect_timeout")
    }
    return {**kwargs, **limits, "decode_responses": False, "retry": Retry(NoBackoff(), 0)}


class _SlotConnection(_Connection):  # type: ignore[misc]
    """A connection to the node of a slot."""

    def __init__(self, *, finder: NodeFinder, slot: int, **kwargs: Any) -> None:
        self._finder = finder
        self._slot = slot
        self._redirection: Redirection | None = None
        self._asking = False
        super().__init__(**kwargs)

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """Connect, if it is not: where the last answer sent us, else to the node that has the slot now."""
        if self.is_connected:
            return
        self._asking = False  # its first words are about no key
        there, self._redirection = self._redirection, None
        if there is None:
            there = Redirection(self._finder.slot_map().node_of(self._slot), asking=False)
        self.host, self.port = there.node
        try:
            super().connect_check_health(*args, **kwargs)
        except redis.RedisError:
            self._finder.nodes.distrust()
            raise
        self._asking = there.asking

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Send one command, behind ASKING where the slot is on its way."""
        self.connect()  # whether it is, is known only then
        if self._asking:
            self.send_packed_command(self.pack_commands([args]), kwargs.get("check_health", True))
        else:
            super().send_command(*args, **kwargs)

    def pack_commands(self, commands: Iterable[tuple[Any, ...]]) -> Any:
        """The bytes of several commands, each behind ASKING where the slot is on its way."""
        self.connect()
        if self._asking:
            commands = [word for command in commands for word in (("ASKING",), command)]
        return super().pack_commands(commands)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """The answer to the next command; MOVED and ASK are remembered for the next time that it connects."""
        refused = self._answer_to_asking(*args, **kwargs) if self._asking else None
        try:
            return super().read_response(*args, **kwargs)
        except redis.exceptions.AskError as error:  # MOVED is one as well
            if refused is not None:
                raise refused from None
            self._redirection = redirection(error, Node(self.host, self.port))
            raise
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ClusterDownError):
            self._finder.nodes.distrust()
            raise

    def _answer_to_asking(self, *args: Any, **kwargs: Any) -> redis.ResponseError | None:
        try:
            super().read_response(*args, **kwargs)
        except redis.ResponseError as error:
            return error
        return None


class _SlotTlsConnection(_SlotConnection, _SSLConnection):  # type: ignore[misc]
    """The same with TLS."""


def client_of_key(nodes: ClusterNodes, kwargs: Mapping[str, Any], key: str) -> redis.Redis:
    """A client for `key` and for what is in its slot; `kwargs` are redis-py's for any node of the cluster.

    A command that a node sends elsewhere was not done, and is sent there; no other is repeated.
    """
    elsewhere = Retry(NoBackoff(), REDIRECTIONS_MAX, supported_errors=(redis.exceptions.AskError,))
    client = redis.Redis(**{**kwargs, "retry": elsewhere})
    pool = client.connection_pool
    pool.connection_class = _SlotTlsConnection if pool.connection_class is redis.SSLConnection else _SlotConnection
    pool.connection_kwargs |= {"finder": NodeFinder(nodes, kwargs), "slot": slot_of(key)}
    return client
