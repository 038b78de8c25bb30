"""Two metadata servers, one MDT, one stream, and everything that can go wrong between them, in one process.

The real loop (poller, belief, cache, stream) against a real server; faults enter through constructor arguments only.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import redis

from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StreamUnavailable
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.stream.compare_and_append import PendingAppend
from hsm_shipper.stream.stream import ActionStream
from hsm_shipper.worker.changes import ChangeWriter
from hsm_shipper.worker.poll_result import PollResult
from hsm_shipper.worker.poller import Poller
from hsm_shipper.worker.stream_replica import StreamReplica
from tests.simulator.debugfs import DebugfsActions, Listing
from tests.support.truth import Place, Verdict, digests_of, judge_stream

MDT = "elm-MDT0000"
KEY = f"hsm:actions:{MDT}"


class Killed(BaseException):
    """Where a kill -9 would have ended the process: nothing may catch it on its way."""


class FaultyStream(ActionStream):
    """A stream whose n-th append from now is lost before it, loses its reply, or is the process' last act."""

    fault: str | None = None
    after = 0

    def arm(self, fault: str, after: int) -> None:
        """Let the append that comes after `after` good ones fail: `unreachable`, `reply lost` or `killed`."""
        self.fault, self.after = fault, after

    def start_append(self, expected: Head, payloads: Sequence[bytes]) -> PendingAppend:
        if self.fault is None or not payloads or self.after:
            self.after -= 1 if payloads and self.after else 0
            return super().start_append(expected, payloads)
        fault, self.fault = self.fault, None
        if fault == "unreachable":
            raise StreamUnavailable("injected: the server cannot be reached")
        super().start_append(expected, payloads).finish()
        if fault == "killed":
            raise Killed
        raise StreamUnavailable("injected: the reply was lost")


class Server:
    """One metadata server: its own state file, the shared stream."""

    def __init__(self, world: World, host: str) -> None:
        self.world = world
        self.host = host
        self.state_path = world.folder / f"{host}.sqlite3"
        self.actions = DebugfsActions(self._render)
        self.next_listings: deque[Listing] = deque()
        """What the next first reads find instead of the true listing."""
        self.start()

    def start(self) -> None:
        """A fresh process on the state file that is there; the kernel has closed what the one before it held."""
        self.actions.open_files.clear()
        self.stream = FaultyStream(self.world.client, KEY, "the test's server")
        self.replica = StreamReplica(self.state_path, self.stream, self.host)
        self.actions_file = ActionsFile(Path("actions"), self.actions.open, hold=True)
        writer = ChangeWriter(MDT, self.host)
        self.poller = Poller(self.actions_file, self.replica, writer, lambda: self.world.hsm_control)

    def kill(self) -> None:
        """End the process; what it had not committed is gone."""
        self.replica.close()
        self.start()

    def poll(self) -> PollResult:
        """One poll; a `Killed` on the way is a kill -9, and another process starts."""
        try:
            return self.poller.poll()
        except Killed:
            self.kill()
            return self.poller.poll()

    def _render(self) -> Listing:
        return self.next_listings.popleft() if self.next_listings else Listing(self.world.listing())


class World:
    """The listing of one MDT and who serves it."""

    def __init__(self, client: redis.Redis, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.lines: dict[Place, bytes] = {}
        self.order: int | None = None
        """What the listing is shuffled by; None for one sorted by place, as the kernel's are."""
        self.hsm_control = "enabled"
        self.mounted_on = "mds1"
        self.servers = {host: Server(self, host) for host in ("mds1", "mds2")}
        self.server.actions.mount()

    @property
    def server(self) -> Server:
        """The server that has the MDT."""
        return self.servers[self.mounted_on]

    @property
    def other(self) -> Server:
        """The one that has not."""
        return self.servers["mds2" if self.mounted_on == "mds1" else "mds1"]

    def fail_over(self) -> None:
        """The MDT is unmounted, and mounted on the other server."""
        self.server.actions.unmount()
        self.mounted_on = self.other.host
        self.server.actions.mount()

    def remount(self) -> None:
        """The MDT is unmounted, and mounted on the same server."""
        self.server.actions.unmount()
        self.server.actions.mount()

    def places(self) -> list[Place]:
        """The places of the listing, in its order."""
        places = sorted(self.lines)
        if self.order is not None:
            random.Random(self.order).shuffle(places)
        return places

    def listing(self) -> bytes:
        """The actions file."""
        return b"".join(self.lines[place] + b"\n" for place in self.places())

    def verdict(self) -> Verdict:
        """The whole stream, judged."""
        return judge_stream(self.client, KEY)

    def stream_is_true(self) -> bool:
        """Whether folding the stream gives the listing."""
        return self.verdict().digests() == digests_of(self.listing())

    def close(self) -> None:
        """Close the state files."""
        for server in self.servers.values():
            server.replica.close()
