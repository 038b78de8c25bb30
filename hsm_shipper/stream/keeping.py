"""Acknowledged means kept, as a site chooses: on how many replicas, and whether on disk, before a state is committed.

WAIT (https://redis.io/docs/latest/commands/wait/) and WAITAOF (https://redis.io/docs/latest/commands/waitaof/, from
Redis 7.2 and in Valkey) look at the last write of their own connection, and block nobody else. When their time is over
they say how far it got; the write stays where it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import kept_key
from hsm_shipper.errors import StreamNotKept

# Of the key that `confirm` writes.
_LIFE_MS = 100
_HINT = (
    "nothing more is shipped until they are kept as redis_wait_replicas and redis_wait_fsync say, and nothing is sent "
    "twice: look at the replicas (`INFO replication`) and at the disks. It is tried again at every poll"
)


class Keeping(NamedTuple):
    """Who has to have an entry before it counts: so many replicas beside the primary; with `fsync` all on disk."""

    replicas: int
    fsync: bool
    timeout_s: float

    @classmethod
    def configured(cls, config: Config) -> Keeping | None:
        """What a configuration asks for; None if the primary's word is enough."""
        if not config.redis_wait_replicas and not config.redis_wait_fsync:
            return None
        return cls(config.redis_wait_replicas, config.redis_wait_fsync, config.redis_wait_timeout_s)

    def __str__(self) -> str:
        replicas = "on 1 replica" if self.replicas == 1 else f"on {self.replicas} replicas" if self.replicas else ""
        return " and ".join(part for part in (replicas, "on disk" if self.fsync else "") if part)

    def wait(self, connection: Any, what: str) -> None:
        """Wait until what `connection` has written is kept. Raises `StreamNotKept` of `what`, or redis-py's errors."""
        timeout_ms = round(self.timeout_s * 1000)
        if self.fsync:
            connection.send_command("WAITAOF", 1, self.replicas, timeout_ms)
            here, there = connection.read_response()
        else:
            connection.send_command("WAIT", self.replicas, timeout_ms)
            here, there = 1, connection.read_response()
        if here < 1 or there < self.replicas:
            raise StreamNotKept(f"{what} {self._how_far(here, there)} after {self.timeout_s:g} s", _HINT)

    def confirm(self, pool: Any, key: str, what: str) -> None:
        """Wait until all that the server holds now is kept, whoever wrote it; raises what `wait` raises.

        Only a write of the same connection is waited for, and it covers all that was before it.
        """
        connection = pool.get_connection()
        try:
            connection.send_command("SET", kept_key(key), "", "PX", _LIFE_MS)
            connection.read_response()
            self.wait(connection, what)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _how_far(self, here: int, there: int) -> str:
        if not self.fsync:
            return f"reached {there} of {self.replicas} replicas"
        disk = "is on the disk of the primary" if here else "is not on the disk of the primary"
        return f"{disk} and on those of {there} of {self.replicas} replicas" if self.replicas else disk
