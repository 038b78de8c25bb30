"""Which node of a cluster has which slots: asked anew of any node that answers, and whole or an error.

What is asked is written once, as a generator of questions: blocking connections drive it here, the tools' readers in
their own way. CLUSTER SLOTS names the primary of each range of slots by the address that a client is to use
(https://redis.io/docs/latest/commands/cluster-slots/).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterable, Mapping
from typing import Any, NamedTuple

import redis
import redis.exceptions
from redis.crc import key_slot

from hsm_shipper.contract.redis_address import Node, RedisAddress, announced
from hsm_shipper.contract.stream_ids import text_of
from hsm_shipper.stream.questions import Question

SLOTS = 16_384
# A node that takes longer to say where the slots are is down, and there are others.
MAP_TIMEOUT_S = 2.0

_NO_CLUSTER = "cluster support disabled"


class ClusterUnavailable(redis.ConnectionError):
    """No node answers, or slots are served by none: this may pass."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class ClusterRefused(redis.ResponseError):
    """The address and the servers do not go together: that is for a person to put right."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class SlotMap:
    """Every slot of a cluster with the primary that serves it. Raises `ClusterUnavailable` where slots have none."""

    def __init__(self, ranges: Iterable[tuple[int, int, Node]]) -> None:
        """`ranges` are the first slot, the last one and the node of each."""
        self.ranges = sorted(ranges)
        self._firsts = [first for first, _, _ in self.ranges]
        self.primaries = tuple(sorted({node for _, _, node in self.ranges}))
        served = sum(last - first + 1 for first, last, _ in self.ranges)
        if served != SLOTS:
            raise ClusterUnavailable(
                f"{SLOTS - served} of its {SLOTS} slots are served by no node",
                "a node is down and no replica can take over, or slots were never given to a node: CLUSTER NODES tells",
            )

    def node_of(self, slot: int) -> Node:
        """The primary of a slot."""
        return self.ranges[bisect_right(self._firsts, slot) - 1][2]


class ClusterNodes:
    """The nodes of the cluster that `address` names; for all connections of a client, of any thread."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._nodes = address.nodes

    def look(self) -> Generator[Question, Any, SlotMap]:
        """Where the slots are now, as the first node tells that knows them all.

        Raises `ClusterUnavailable`, `ClusterRefused`, or the error of the node that refused to tell.
        """
        failures: dict[Node, redis.RedisError] = {}
        for node in self._nodes:
            try:
                reply = yield Question(node, ("CLUSTER", "SLOTS"))
                found = SlotMap((first, last, _node(primary, node)) for first, last, primary, *_ in reply)
            except redis.RedisError as error:
                failures[node] = error
                continue
            others = [other for _, _, *nodes in reply for told in nodes if (other := _usable(told, node)) is not None]
            # Those of the address stay among them: all others may be replaced while nobody looks.
            self._nodes = tuple(dict.fromkeys([node, *self._address.nodes, *others]))
            return found
        raise self._nothing_found(failures)

    def distrust(self) -> None:
        """Ask another node first: what the last map led to did not work.

        A node that is cut off from the others goes on telling that it is the primary, and would always be asked first.
        """
        self._nodes = (*self._nodes[1:], self._nodes[0])

    def _nothing_found(self, failures: Mapping[Node, redis.RedisError]) -> redis.RedisError:
        told = ", ".join(f"{node}: {str(error).rstrip('.')}" for node, error in failures.items())
        answers = [error for error in failures.values() if _is_answer(error)]
        for node, error in failures.items():
            if _NO_CLUSTER in str(error):
                single = self._address.scheme.removesuffix("+cluster")
                return ClusterRefused(f"{node} is no node of a cluster", f"name it by {single}://{node}/DB")
        if answers:
            return answers[0]
        trouble = ClusterUnavailable(
            f"no node of the cluster answers ({told})", "are the nodes up, and are those their hosts and ports?"
        )
        trouble.__cause__ = next(iter(failures.values()))
        return trouble


class Redirection(NamedTuple):
    """Where a key is by the word of a node that has it not."""

    node: Node
    asking: bool
    """Whether the key is on its way there: the node serves it to whoever says ASKING before."""


def slot_of(key: str | bytes) -> int:
    """The slot of a key."""
    found: int = key_slot(key.encode() if isinstance(key, str) else key)
    return found


def redirection(error: redis.exceptions.AskError, asked: Node) -> Redirection:
    """What MOVED or ASK, the answer of `asked`, says; without a host it means another port of the same.

    Raises `ClusterRefused` where nobody can go.
    """
    node = _announced(error.host or asked.host, error.port)
    return Redirection(node, not isinstance(error, redis.exceptions.MovedError))


def _node(told: list[Any], asked: Node) -> Node:
    """A node as `asked` tells it: [address, port, id, ...], the address nil or '' for that which `asked` has itself."""
    host = told[0] or asked.host
    if host in (b"?", "?"):
        raise ClusterRefused(
            f"node {text_of(told[2])} has no host name, and clients are told to use host names",
            "set its cluster-announce-hostname, or cluster-preferred-endpoint-type to ip",
        )
    return _announced(host, told[1])


def _usable(told: list[Any], asked: Node) -> Node | None:
    """The same of one that need not be asked; None where nobody can."""
    try:
        return _node(told, asked)
    except ClusterRefused:
        return None


def _announced(host: bytes | str, port: int) -> Node:
    try:
        return announced(host, port)
    except ValueError as error:
        hint = "look at cluster-announce-hostname of the nodes, or set cluster-preferred-endpoint-type to ip"
        raise ClusterRefused(f"a node is told that nobody can connect to: {error}", hint) from None


def _is_answer(error: redis.RedisError) -> bool:
    silent = isinstance(error, (redis.ConnectionError, redis.TimeoutError)) and not isinstance(
        error, (redis.AuthenticationError, ClusterUnavailable)
    )
    return not silent
