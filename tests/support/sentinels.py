"""A service as sites run it: a primary, its replicas, and three Sentinels that make one of them the next primary."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis

from hsm_shipper.config import Config
from tests.support.servers import RedisServer, server_binary
from tests.support.waiting import DEADLINE_S, eventually

SERVICE = "hsm"
# How long a server may be silent until it counts as down. On a busy machine a shorter time is over without a failover
# that anybody asked for, which these tests have to live with, and do.
_DOWN_AFTER_MS = 3000


class SentinelServer(RedisServer):
    """One Sentinel, which watches `primary` (at its `port`); `options` are lines of its configuration."""

    def __init__(self, folder: Path, primary: RedisServer, *options: str, port: int | None = None) -> None:
        super().__init__(folder)
        self._file = folder / "sentinel.conf"
        folder.mkdir(parents=True)
        lines = [f"port {self.port}", f"bind {self.host}", f"dir {folder}", f"logfile {folder / 'server.log'}"]
        lines += [f"sentinel monitor {SERVICE} {primary.host} {port or primary.port} 2"]
        lines += [f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}"]
        lines += [f"sentinel failover-timeout {SERVICE} 5000"]
        self._file.write_text("\n".join([*lines, *options]) + "\n")

    def _command(self) -> list[str]:
        return [str(server_binary()), str(self._file), "--sentinel"]


class SentinelService:
    """The servers and Sentinels of one service, in `folder`; all that is started is ended by `kill`."""

    def __init__(
        self,
        folder: Path,
        *,
        replicas: int = 1,
        options: Mapping[str, str] | None = None,
        sentinel_options: tuple[str, ...] = (),
    ) -> None:
        settings = {"repl-diskless-sync-delay": "0", **(options or {})}
        self.servers = [RedisServer(folder / f"server{number}", settings) for number in range(replicas + 1)]
        self.sentinels = [
            SentinelServer(folder / f"sentinel{number}", self.servers[0], *sentinel_options) for number in range(3)
        ]

    def start(self) -> SentinelService:
        """Start them all; returns once every Sentinel knows the others and every replica."""
        for server in self.servers:
            server.start()
        for server in self.servers[1:]:
            server.follow(self.servers[0])
        for sentinel in self.sentinels:
            sentinel.start()
        eventually(self.is_settled, DEADLINE_S, 0.1)
        return self

    def kill(self) -> None:
        """End everything."""
        for server in [*self.sentinels, *self.servers]:
            server.kill()

    @property
    def url(self) -> str:
        """The service, database 0."""
        listed = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{listed}/{SERVICE}/0"

    def config(self, **changes: Any) -> Config:
        """A configuration that names the service."""
        return Config(**{"redis_url": self.url, **changes})

    @property
    def primary(self) -> RedisServer:
        """The one that the Sentinels name, once they agree."""
        port = eventually(self._agreed_port, DEADLINE_S, 0.1)
        return next(server for server in self.servers if server.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The others."""
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def is_settled(self) -> bool:
        """Whether all Sentinels name one primary, and know that all other servers follow it."""
        return self._agreed_port() is not None and all(self._is_whole(one) for one in self.sentinels)

    def switch(self, meanwhile: Callable[[], object] = lambda: None) -> RedisServer:
        """Have the Sentinels fail over, all being well; returns the new primary. `meanwhile` is done all the time."""
        before = self.primary
        asked_s = -math.inf

        def ask_now_and_then() -> None:
            # One that is accepted is given up where no replica was heard of lately.
            nonlocal asked_s
            meanwhile()
            if time.monotonic() > asked_s + 2 and self._agreed_port() == before.port:
                asked_s = time.monotonic()
                self._ask_to_switch()

        return self.next_after(before, ask_now_and_then)

    def restart_dead(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Start what was killed; returns once it follows the primary. `meanwhile` is done all the time."""
        for server in self.servers:
            if not server.is_running:
                server.start()
        eventually(lambda: meanwhile() or self._all_follow(), DEADLINE_S, 0.05)

    def _all_follow(self) -> bool:
        return all(_follows(server) for server in self.replicas)

    def next_after(self, before: RedisServer, meanwhile: Callable[[], object] = lambda: None) -> RedisServer:
        """The next primary, once there is one; `meanwhile` is done all the time."""

        def other() -> RedisServer | None:
            meanwhile()
            port = self._agreed_port()
            found = next((server for server in self.servers if server.port == port), before)
            return found if found is not before and _takes_writes(found) else None

        found = eventually(other, DEADLINE_S, 0.05)
        assert found is not None
        return found

    def _ask_to_switch(self) -> None:
        with contextlib.suppress(redis.ResponseError):  # another is going on, or no replica is good enough yet
            _ask(self.sentinels[0], lambda client: client.execute_command("SENTINEL", "FAILOVER", SERVICE))

    def _agreed_port(self) -> int | None:
        ports = {_ask(sentinel, _named) for sentinel in self.sentinels}
        return ports.pop() if len(ports) == 1 else None

    def _is_whole(self, sentinel: SentinelServer) -> bool:
        told = _ask(sentinel, lambda client: client.sentinel_master(SERVICE))
        followers = _ask(sentinel, lambda client: client.sentinel_slaves(SERVICE))
        in_step = [one for one in followers if one["flags"] == "slave" and one["master-link-status"] == "ok"]
        return bool(told["num-other-sentinels"] == 2 and len(in_step) == len(self.servers) - 1)


def _named(client: Any) -> int:
    return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])


def _ask(sentinel: SentinelServer, question: Callable[[Any], Any]) -> Any:
    with sentinel.client() as client:
        return question(client)


def _follows(server: RedisServer) -> bool:
    told = _replication(server)
    return bool(told.get("role") == "slave" and told["master_link_status"] == "up")


def _takes_writes(server: RedisServer) -> bool:
    return bool(_replication(server).get("role") == "master")


def _replication(server: RedisServer) -> dict[str, Any]:
    """What it says; nothing from one that has just become something else, and ends all connections at that."""
    with contextlib.suppress(redis.ConnectionError), server.client() as client:
        return dict(client.info("replication"))
    return {}
