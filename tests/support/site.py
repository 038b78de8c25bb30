"""A site for scenarios: metadata servers whose MDTs are simulated, and shippers that really run on them."""

from __future__ import annotations

from collections import Counter

import redis

from hsm_shipper.errors import StateError
from hsm_shipper.state.poll_status import PollStatus, read_poll_status, state_file
from tests.simulator import SimulatedMds, SimulatedMdt
from tests.support.servers import RedisServer
from tests.support.shipper import MetadataServer
from tests.support.truth import Verdict, digests_of, judge_stream
from tests.support.waiting import eventually

MDT = "elm-MDT0000"
STREAM = f"hsm:actions:{MDT}"
LIVE = 100  # the actions of the fixture `mdt`
POLL_INTERVAL_S = 0.05
# One poll may have begun before a listing was written, the next one reads it, and a list that lost most of its
# actions is believed at the one after.
_POLLS_TO_SETTLE = 3


class SimulatedServer(MetadataServer):
    """A metadata server that simulated MDTs are mounted on."""

    def __init__(self, redis_server: RedisServer, redis_db: int, host: str = "mds1", **keys: object) -> None:
        super().__init__(redis_server.port, redis_db, **{"host": host, "poll_interval": POLL_INTERVAL_S} | keys)
        self.mds = SimulatedMds(self.root)

    def start_polled(self, mdt: SimulatedMdt) -> PollStatus:
        """Start the shipper, and wait until the worker of `mdt` polls; supervisord may not call it RUNNING yet."""
        self.start()
        return self.wait_polled(mdt)

    def status(self, mdt: SimulatedMdt) -> PollStatus | None:
        """The worker's last poll, if it has left one."""
        try:
            return read_poll_status(state_file(self.state_dir, mdt.name))
        except StateError:  # a test may have broken it
            return None

    def wait_polled(self, mdt: SimulatedMdt, polls: int = _POLLS_TO_SETTLE) -> PollStatus:
        """Wait until the worker has finished that many polls from now on, the last of them without an error."""
        before = self.status(mdt)
        begin = 0 if before is None else before.polls

        def polled() -> PollStatus | None:
            status = self.status(mdt)
            if status is None or status.polls < begin + polls:
                return None
            failed = status.last_error_at is not None and status.last_error_at >= status.last_poll_at - 1e-3
            return None if failed else status

        status = eventually(polled, interval_s=0.01)
        assert status is not None
        return status


def run_once(server: SimulatedServer, returncode: int = 0) -> str:
    """One poll of everything by the installed command, which must end so; returns what it printed."""
    done = server.run("--run-once")
    assert done.returncode == returncode, done.stderr
    return done.stdout + done.stderr


def verdict(client: redis.Redis, mdt: SimulatedMdt) -> Verdict:
    """The whole stream of `mdt`, judged."""
    return judge_stream(client, f"hsm:actions:{mdt.name}")


def is_true(client: redis.Redis, mdt: SimulatedMdt) -> bool:
    """Whether folding the stream of `mdt` gives what its listing holds."""
    return verdict(client, mdt).digests() == digests_of(mdt.listing())


class Oracle:
    """Counts the events that a sequence of listings must give, from the listings alone.

    An action is its place, cookie, FID and action; its state is its line.
    """

    def __init__(self) -> None:
        self.expected: Counter[str] = Counter()
        self._before: dict[tuple[str, ...], bytes] = {}

    def see(self, listing: bytes) -> None:
        """The next listing that a poll reads."""
        now = {_identity(line): line for line in listing.splitlines()}
        self.expected["NEW"] += len(now.keys() - self._before.keys())
        self.expected["PURGED"] += len(self._before.keys() - now.keys())
        self.expected["UPDATE"] += sum(line != self._before[key] for key, line in now.items() if key in self._before)
        self.expected += Counter()
        self._before = now


def _identity(line: bytes) -> tuple[str, ...]:
    words = dict(word.split("=", 1) for word in line.decode().split(" ") if "=" in word)
    return words["idx"], words["fid"], words["compound/cookie"].split("/")[1], words["action"]
