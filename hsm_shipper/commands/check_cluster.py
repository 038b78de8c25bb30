"""The part of `check` that looks at the nodes of a Redis Cluster, one by one: a stream may move to any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import redis

from hsm_shipper.commands.findings import Finding, ok, problem, warning
from hsm_shipper.config import Config
from hsm_shipper.contract.redis_address import Node
from hsm_shipper.stream.cluster import NodeFinder
from hsm_shipper.stream.cluster_map import ClusterNodes
from hsm_shipper.stream.connection import client_kwargs

AboutNode = Callable[[redis.Redis, str], Iterator[Finding]]
"""What the server of a client tells of itself; where it is, in words."""


def cluster_findings(config: Config, subject: str, about_node: AboutNode) -> Iterator[Finding]:
    """What each primary tells of itself, and which nodes of the address do not answer."""
    kwargs = client_kwargs(config)
    try:
        slot_map = NodeFinder(ClusterNodes(config.redis_address), kwargs).slot_map()
    except redis.RedisError as error:  # it was whole a moment ago
        yield problem(subject, f"{config.redis_address}: {error}", "check again; if it lasts, look at CLUSTER NODES")
        return
    yield ok(subject, f"a cluster of {len(slot_map.primaries)} primaries that serve all slots")
    for node in slot_map.primaries:
        with redis.Redis(**kwargs | node._asdict()) as client:
            for finding in about_node(client, str(node)):
                yield finding._replace(subject=f"{subject} {node}")
    for node in set(config.redis_address.nodes) - set(slot_map.primaries):
        yield from _answers(kwargs, node, subject)


def _answers(kwargs: dict[str, object], node: Node, subject: str) -> Iterator[Finding]:
    """A node of the address that serves no slot may be a replica, or down, or none of this cluster any more."""
    try:
        with redis.Redis(**kwargs | node._asdict()) as client:  # type: ignore[arg-type]
            client.execute_command("CLUSTER", "SLOTS")
    except redis.RedisError as error:
        advice = "start it, or name another node in redis_url"
        yield warning(subject, f"{node} of redis_url does not tell where the slots are: {error}", advice)
