"""Eight MDTs whose lists change all the time, each with its real poller, on a cluster that has its troubles."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError, StreamUnavailable
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.maintenance.run import MaintenanceRun
from hsm_shipper.stream.connection import connect
from hsm_shipper.worker.main import make_poller
from hsm_shipper.worker.poll_result import PollResult
from tests.support.clusters import RedisCluster
from tests.support.core import by_place, line
from tests.support.truth import judge_stream
from tests.support.waiting import eventually

MDTS = [f"elm-MDT{number:04x}" for number in range(8)]


class BusyMdt:
    """One MDT: `change` changes its list at random, `poll` polls it."""

    def __init__(self, mdt: str, config: Config, folder: Path, seed: int) -> None:
        self.mdt = mdt
        self.key = f"hsm:actions:{mdt}"
        self._config = config
        self._actions = folder / mdt
        self._chance = random.Random(seed)
        self._next = 1
        self.listing: dict[int, str] = {}
        self.troubles: list[HsmError] = []
        """Of all polls and all maintenance."""
        self._client = connect(config, self.key)
        self.change()
        self._poller, self._replica = make_poller(self._client, config, mdt, ActionsFile(self._actions))

    def lines(self) -> list[bytes]:
        """The list as it is now."""
        return [line(rec, status) for rec, status in sorted(self.listing.items())]

    def change(self) -> None:
        """Some actions come, some change, some go."""
        for _ in range(self._chance.randrange(1, 4)):
            self.listing[self._next] = "WAITING"
            self._next += 1
        for rec in self._chance.sample(sorted(self.listing), min(2, len(self.listing))):
            self.listing[rec] = self._chance.choice(["STARTED", "SUCCEED", "FAILED"])
        if len(self.listing) > 20:
            for rec in self._chance.sample(sorted(self.listing), 3):
                del self.listing[rec]
        self._actions.write_bytes(b"".join(data + b"\n" for data in self.lines()))

    def poll(self) -> PollResult:
        """One poll; what went wrong is kept."""
        result = self._poller.poll()
        if result.error is not None:
            self.troubles.append(result.error)
        return result

    def maintain(self) -> None:
        """One maintenance run; what went wrong is kept."""
        try:
            MaintenanceRun(self._config, self.mdt, self._actions, lambda: False)()
        except HsmError as error:
            self.troubles.append(error)

    def settle(self) -> None:
        """Poll until a poll finds nothing left to tell."""
        eventually(lambda: (result := self.poll()).error is None and not result.events, 60.0, 0.05)

    def check(self, cluster: RedisCluster) -> None:
        """The stream says exactly what the list does, and never said anything false or twice."""
        with cluster.client_of(self.key) as client:
            verdict = judge_stream(client, self.key)
        assert verdict.complaints == []
        assert {action.place: action.digest for action in verdict.live} == by_place(self.lines())

    def close(self) -> None:
        """Let go of state file and Redis."""
        self._replica.close()
        self._client.close()


class Load:
    """All eight of them; `rounds` changes and polls them, while `trouble` goes on in a thread."""

    def __init__(self, cluster: RedisCluster, folder: Path) -> None:
        self.cluster = cluster
        state = folder / "state"
        state.mkdir(parents=True)
        config = Config(
            redis_url=f"{cluster.url}?socket_timeout=1", state_dir=str(state), run_dir=str(folder / "run"), host="mds1"
        )
        self.mdts = [BusyMdt(mdt, config, folder, seed) for seed, mdt in enumerate(MDTS)]

    @contextlib.contextmanager
    def under(self, trouble: Callable[[threading.Event], None]) -> Iterator[None]:
        """`trouble` is called in a thread with an event that tells it to end, and must have worked."""
        ending, failures = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                trouble(ending)
            except BaseException as error:  # noqa: BLE001 - it is raised in the test
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()
        if failures:
            raise failures[0]

    def rounds(self, count: int) -> None:
        """So many changes and polls of each; maintenance now and then."""
        for number in range(count):
            for mdt in self.mdts:
                mdt.change()
                mdt.poll()
            if number % 10 == 9:
                self.mdts[number // 10 % len(self.mdts)].maintain()

    def rounds_until(self, is_over: Callable[[], bool]) -> None:
        """Rounds as long as `is_over` is not."""

        def over() -> bool:
            self.rounds(2)
            return is_over()

        eventually(over)

    def settle(self) -> None:
        """Until every stream says what the list does."""
        for mdt in self.mdts:
            mdt.settle()

    def check(self) -> None:
        """Every stream is true."""
        for mdt in self.mdts:
            mdt.check(self.cluster)

    def troubles(self) -> list[HsmError]:
        """Whatever a poll or a maintenance run has met."""
        return [trouble for mdt in self.mdts for trouble in mdt.troubles]

    def unexpected(self) -> list[HsmError]:
        """Of these all but that no node answers just now."""
        return [trouble for trouble in self.troubles() if not isinstance(trouble, StreamUnavailable)]

    def close(self) -> None:
        """Let go of everything."""
        for mdt in self.mdts:
            mdt.close()
