"""A real Redis Cluster for tests: three primaries with a replica each, slots that move, nodes that fail over."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.support.servers import RedisServer, free_port
from tests.support.waiting import DEADLINE_S, eventually

SLOTS = 16_384
PRIMARIES = 3
_NODE_TIMEOUT_MS = 1000
_FAILOVER_TIMEOUT_S = 6.0  # a server gives up after 5, where the other did not pause in time


class ClusterNode(RedisServer):
    """One server of a cluster."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        self.bus_port = free_port()
        own = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "databases": "1",
        }
        self.tls_port = free_port()
        if options and "tls-cert-file" in options:
            # Else servers before 7.2 tell a client that came by TLS the other port.
            own |= {"tls-port": str(self.tls_port), "tls-cluster": "yes"}
        super().__init__(folder, own | dict(options or {}))

    @property
    def port_for_nodes(self) -> int:
        """The port by which other nodes send keys."""
        return self.tls_port if "tls-port" in self.options else self.port

    def ask(self, *words: Any) -> Any:
        """The reply to one command, as it is sent."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

    @property
    def id(self) -> str:
        """Its id in the cluster."""
        return str(self.ask("CLUSTER", "MYID").decode())

    def cluster_info(self) -> dict[str, str]:
        """CLUSTER INFO."""
        lines = self.ask("CLUSTER", "INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def is_primary(self) -> bool:
        """Whether it serves slots, or could."""
        return bool(self.ask("ROLE")[0] == b"master")


class RedisCluster:
    """Six nodes in `folder`, or three without `replicas`; ready when it is made."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None, *, replicas: bool = True) -> None:
        count = 2 * PRIMARIES if replicas else PRIMARIES
        self.nodes = [ClusterNode(folder / f"node-{number}", options).start() for number in range(count)]
        self._ends = ends = [SLOTS * number // PRIMARIES for number in range(PRIMARIES + 1)]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < PRIMARIES:
                node.ask("CLUSTER", "ADDSLOTSRANGE", ends[number], ends[number + 1] - 1)
            node.ask("CLUSTER", "MEET", self.nodes[0].host, self.nodes[0].port, self.nodes[0].bus_port)
        eventually(
            lambda: all(node.cluster_info()["cluster_known_nodes"] == str(count) for node in self.nodes), DEADLINE_S
        )
        for primary, replica in zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:], strict=False):
            eventually(lambda: _done(lambda: replica.ask("CLUSTER", "REPLICATE", primary.id)), DEADLINE_S)  # noqa: B023
        self.wait_until_whole()

    @property
    def url(self) -> str:
        """What a configuration names it by."""
        listed = ",".join(f"{node.host}:{node.port}" for node in self.nodes[:PRIMARIES])
        return f"redis+cluster://{listed}"

    @property
    def tls_url(self) -> str:
        """The same by TLS, if the nodes have certificates."""
        return f"rediss+cluster://{','.join(f'{node.host}:{node.tls_port}' for node in self.nodes)}"

    def wait_until_whole(self) -> None:
        """Until all nodes are up, agree, and the replicas are in step."""
        troubles: list[str] = []

        def is_whole() -> bool:
            troubles[:] = [f"node {number}: {self._trouble(node)}" for number, node in enumerate(self.nodes)]
            return all(trouble.endswith(": ") for trouble in troubles) and self._agree()

        try:
            eventually(is_whole, DEADLINE_S, 0.05)
        except AssertionError as error:
            raise AssertionError(f"the cluster is not whole: {troubles}") from error

    def _trouble(self, node: ClusterNode) -> str:
        try:
            info, role = node.cluster_info(), node.ask("ROLE")
        except redis.RedisError as error:
            return str(error)
        if info["cluster_state"] != "ok" or info["cluster_known_nodes"] != str(len(self.nodes)):
            return f"{info}"
        return f"{role}" if role[0] == b"slave" and role[3] != b"connected" else ""

    def _agree(self) -> bool:
        maps = [sorted((s, e, node[1]) for s, e, node, *_ in node.ask("CLUSTER", "SLOTS")) for node in self.nodes]
        return all(other == maps[0] for other in maps) and sum(map(ClusterNode.is_primary, self.nodes)) == PRIMARIES

    def heal(self) -> None:
        """Start the nodes that were killed, leave no slot on its way, and wait until the cluster is whole."""
        for node in self.nodes:
            if not node.is_running:
                (node.folder / "dump.rdb").unlink(missing_ok=True)  # of when it was made a replica, perhaps
                node.start()
        self.wait_until_whole()
        self._bring_slots_home()

    def _bring_slots_home(self) -> None:
        for node in self.nodes:
            for slot in re.findall(r"\[(\d+)-", node.ask("CLUSTER", "NODES").decode()):
                node.ask("CLUSTER", "SETSLOT", slot, "STABLE")
        for first, last, (_, port, *_), *_ in self.nodes[0].ask("CLUSTER", "SLOTS"):
            source = self._listening_on(port)
            home = self.nodes.index(source) % PRIMARIES
            for slot in {*range(first, last + 1)} - {*range(self._ends[home], self._ends[home + 1])}:
                pair = next(number for number in range(PRIMARIES) if slot < self._ends[number + 1])
                target = next(node for node in self.nodes[pair::PRIMARIES] if node.is_primary())
                self._give(slot, source, target)

    def kill(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.kill()

    def flush(self) -> None:
        """Leave no key, and every node up."""
        for node in self.nodes:
            if node.is_primary():
                node.ask("FLUSHALL")

    def node_of(self, key: str) -> ClusterNode:
        """The primary that has `key` by its own word: others may not know yet."""
        return eventually(lambda: [node for node in self.nodes if self._has(node, key)], DEADLINE_S)[0]

    def _has(self, node: ClusterNode, key: str) -> bool:
        if not node.is_running:
            return False
        try:
            ranges = node.ask("CLUSTER", "SLOTS")
            slot = key_slot(key.encode())
            its = any(first <= slot <= last and port == node.port for first, last, (_, port, *_), *_ in ranges)
            return its and node.is_primary()
        except redis.RedisError:  # it hangs, or was killed just now
            return False

    def partner_of(self, node: ClusterNode) -> ClusterNode:
        """The node that is its replica, or whose replica it is."""
        return self.nodes[(self.nodes.index(node) + PRIMARIES) % len(self.nodes)]

    def client_of(self, key: str) -> redis.Redis:
        """A client of the node that has `key` now."""
        return self.node_of(key).client()

    def fail_over(self, key: str) -> None:
        """Have the replica of the node of `key` take its place, in good order."""
        old = self.node_of(key)
        new = self.partner_of(old)
        asked_s = -math.inf

        def has_taken_over() -> bool:
            nonlocal asked_s
            if new.is_primary():
                return not old.is_primary()
            if time.monotonic() - asked_s > _FAILOVER_TIMEOUT_S and new.ask("ROLE")[3] == b"connected":
                asked_s = time.monotonic()
                new.ask("CLUSTER", "FAILOVER")
            return False

        eventually(has_taken_over, DEADLINE_S)

    def begin_move(self, key: str) -> tuple[ClusterNode, ClusterNode]:
        """Let the slot of `key` be on its way to another node; returns from where and to where."""
        source = self.node_of(key)
        target = next(node for node in self.nodes if node is not source and node.is_primary())
        self._begin(key_slot(key.encode()), source, target)
        return source, target

    def move_keys(self, key: str, source: ClusterNode, target: ClusterNode) -> None:
        """Move what is in the slot of `key`."""
        self._move_keys(key_slot(key.encode()), source, target)

    def end_move(self, key: str, source: ClusterNode, target: ClusterNode) -> None:
        """The slot is there: all are told."""
        self._end(key_slot(key.encode()), source, target)

    def _give(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        self._begin(slot, source, target)
        self._end(slot, source, target)

    def _begin(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        _set_slot(target, slot, "IMPORTING", source.id)
        _set_slot(source, slot, "MIGRATING", target.id)

    def _move_keys(self, slot: int, source: ClusterNode, target: ClusterNode) -> bool:
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, SLOTS)
        if keys:
            source.ask("MIGRATE", target.host, target.port_for_nodes, "", 0, 5000, "KEYS", *keys)
        return bool(keys)

    def _end(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        while self._move_keys(slot, source, target):
            pass
        new = target.id
        others = [node for node in self.nodes if node not in (source, target) and node.is_primary()]
        for node in (target, source, *others):
            _set_slot(node, slot, "NODE", new)

    def move(self, key: str) -> None:
        """Move the slot of `key` to another node."""
        source, target = self.begin_move(key)
        self.end_move(key, source, target)

    def _listening_on(self, port: int) -> ClusterNode:
        return next(node for node in self.nodes if node.port == port)


def _set_slot(node: ClusterNode, slot: int, *words: str) -> None:
    """CLUSTER SETSLOT; a node that has not heard yet that another one became primary is given the time to hear it."""

    def has_set() -> bool:
        try:
            node.ask("CLUSTER", "SETSLOT", slot, *words)
        except redis.ResponseError as error:
            if "is not a master" not in str(error):
                raise
            return False
        return True

    eventually(has_set, DEADLINE_S, 0.05)


def _done(act: Any) -> bool:
    try:
        act()
    except redis.RedisError:
        return False
    return True
