"""The replica that is read from, and how old what it says may be."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import redis

from hsm_shipper.contract.redis_address import Node
from hsm_shipper.process.durations import span

logger = logging.getLogger("hsm_tools.consumer")


class ReplicaState(NamedTuple):
    """How a replica stands to its primary; `str()` is for people."""

    server: str
    """Host and port."""
    is_linked: bool | None
    """Whether it is connected to its primary; None where it does not say."""
    silent_s: int | None
    """Seconds since it has heard of its primary: what it says is no older. None where it does not say."""

    @property
    def is_behind(self) -> bool:
        """Whether what it says may be older than some seconds."""
        return self.is_linked is not True

    def __str__(self) -> str:
        if self.is_linked is None:
            return f"replica {self.server}; how old its data is cannot be told: allow this Redis user +info"
        heard = "" if self.silent_s is None else f" {span(self.silent_s)} ago"
        if self.is_linked:
            return f"replica {self.server}, heard of its primary{heard or ' just now'}"
        return f"replica {self.server}, which has lost its primary{heard}: what is shown is of then"


def replica_state(server: Node | None, info: Any) -> ReplicaState | None:
    """What the reply to INFO replication tells (https://redis.io/docs/latest/commands/info/); None of a primary."""
    name = "?" if server is None else str(server)
    if isinstance(info, redis.RedisError):
        return ReplicaState(name, None, None)
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    told = {key: value for key, separator, value in lines if separator}
    if told.get("role") == "master":
        return None
    is_linked = told.get("master_link_status") == "up"
    # -1 where it never had a link.
    seconds = told.get("master_last_io_seconds_ago" if is_linked else "master_link_down_since_seconds", "")
    return ReplicaState(name, is_linked, int(seconds) if seconds.isdecimal() else None)


class ReplicaLog:
    """Says that a replica is read from, that it has lost its primary, and that it has not any more: each once."""

    def __init__(self) -> None:
        self._was_linked: bool | None = None

    def connected(self, server: Node, is_linked: bool) -> None:
        """A connection was made to the replica `server`."""
        before, self._was_linked = self._was_linked, is_linked
        if is_linked and not before:
            logger.info("reading from replica %s, which has its primary%s", server, "" if before is None else " again")
        elif not is_linked and before is not False:
            logger.warning("replica %s has lost its primary: what it says is as old as that", server)
