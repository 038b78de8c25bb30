"""A service of Sentinels that fails over, back and forth, under workers that ship and tools that read."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.config import Config
from hsm_shipper.contract.kernel_line import unpack_place
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import StreamError
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.stream.connection import connect
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.main import make_poller
from hsm_tools.consumer import StreamReader
from hsm_tools.live_view import LiveView
from tests.support.core import line
from tests.support.sentinels import SentinelService
from tests.support.truth import digests_of, entries_of, judge_stream
from tests.support.waiting import DEADLINE_S, eventually

MDTS = ("elm-MDT0000", "elm-MDT0001")
# A server is killed at some moment of so many seconds, while it is written to.
_SPREAD_S = 0.3


class Mdt:
    """One MDT whose actions come and go, and the poller of its worker."""

    def __init__(self, name: str, config: Config, folder: Path) -> None:
        self.name = name
        self.key = stream_key(config.redis_stream_prefix, name)
        self.shipped = 0
        self.errors: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        """Ids of entries that a committed state has told."""
        self._actions = folder / name
        self._chance = random.Random(name)
        self._listing = dict.fromkeys(range(1, 41), "WAITING")
        self._show()
        self._state = state_file(config.state_path, name)
        self.client = connect(config, self.key)
        self.poller, self.replica = make_poller(self.client, config, name, ActionsFile(self._actions))

    @property
    def listing(self) -> bytes:
        """The actions file."""
        return self._actions.read_bytes()

    def change(self) -> None:
        """What the coordinator does between two polls."""
        chance, listing = self._chance, self._listing
        listing[max(listing) + 1] = "WAITING"
        listing[chance.choice(list(listing))] = chance.choice(["STARTED", "SUCCEED", "FAILED"])
        del listing[chance.choice(list(listing))]
        self._show()

    def poll(self) -> bool:
        """Poll; whether it went well."""
        result = self.poller.poll()
        self.shipped += result.events.total()
        if result.error is not None:
            self.errors[type(result.error).__name__] += 1
        self._note_acknowledged()
        return result.error is None

    def _show(self) -> None:
        self._actions.write_bytes(b"".join(line(rec, self._listing[rec]) + b"\n" for rec in sorted(self._listing)))

    def _note_acknowledged(self) -> None:
        state = StateFile(self._state)
        try:
            head, *_ = state.load(LineIndex)
        finally:
            state.close()
        if head is not None and head.newest_id is not None:
            self.acknowledged.add(head.newest_id)


class Site:
    """A service, MDTs under load, and a tool that reads all the time."""

    def __init__(self, service: SentinelService, folder: Path, wait_replicas: int) -> None:
        self.service = service
        self.config = service.config(
            state_dir=str(folder / "state"), redis_wait_replicas=wait_replicas, redis_wait_timeout_s=1.0
        )
        self.config.state_path.mkdir(parents=True)
        self.mdts = [Mdt(name, self.config, folder) for name in MDTS]
        self.view = LiveView(redis_url=self.config.redis_url)
        self.reader = StreamReader.from_config(self.config, discovery_interval=1)
        self.events_read = 0
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def end(self) -> None:
        """Stop everything but the service."""
        self.reader.close()
        self._thread.join(DEADLINE_S)
        self.view.close()
        for mdt in self.mdts:
            mdt.replica.close()
            mdt.client.close()

    def _read(self) -> None:
        for _ in self.reader.events(from_beginning=True):
            self.events_read += 1

    def work(self) -> bool:
        """One round of everything; False, so that it can be done while something is waited for."""
        for mdt in self.mdts:
            mdt.change()
            mdt.poll()
        self.refreshed()
        return False

    def refreshed(self) -> bool:
        """Have the live actions folded; whether that went well."""
        try:
            self.view.refresh()
        except StreamError:
            return False
        return True

    def work_until_shipped(self) -> None:
        """Until every worker has shipped a good deal more."""
        wanted = {mdt.name: mdt.shipped + 20 for mdt in self.mdts}
        eventually(lambda: self.work() or all(mdt.shipped >= wanted[mdt.name] for mdt in self.mdts))

    def kill_primary(self) -> None:
        """`kill -9` the primary while it is written to; it comes back as a replica of the next one."""
        before = self.service.primary
        killer = threading.Timer(random.random() * _SPREAD_S, before.kill)
        killer.start()
        eventually(lambda: self.work() or not killer.is_alive())
        self.service.next_after(before, self.work)
        self.service.restart_dead(self.work)

    def hang_primary(self) -> None:
        """The primary hangs until there is another one, and comes back believing that nothing has changed."""
        before = self.service.primary
        before.pause()
        try:
            self.service.next_after(before, self.work)
        finally:
            before.resume()
        self.service.restart_dead(self.work)

    def check(self) -> None:
        """Everything says what the MDTs list, and no stream ever said anything else."""
        eventually(self._is_in_step)
        eventually(self.refreshed)
        shown = {name: {unpack_place(action.place) for action in live} for name, live in self.view.folds()}
        ends = {}
        with self.service.primary.client() as client:
            for mdt in self.mdts:
                verdict = judge_stream(client, mdt.key)
                assert verdict.complaints == []
                assert shown[mdt.name] == verdict.digests().keys()
                entries = [entry_id for entry_id, _ in entries_of(client, mdt.key)]
                ends[mdt.key] = entries[-1]
                if self.config.redis_wait_replicas:
                    assert mdt.acknowledged - set(entries) == set()
        eventually(lambda: self.reader.position == ends)

    def _is_in_step(self) -> bool:
        """Whether the primary has it all. One that was switched away takes writes until the Sentinels demote it."""
        polled = all(mdt.poll() for mdt in self.mdts)
        with self.service.primary.client() as client:
            return polled and all(judge_stream(client, m.key).digests() == digests_of(m.listing) for m in self.mdts)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SentinelService]:
    """A primary, its replica, three Sentinels."""
    service = SentinelService(tmp_path / "service")
    try:
        yield service.start()
    finally:
        service.kill()


def live_through(service: SentinelService, folder: Path, wait_replicas: int, failovers: str) -> Site:
    """Live through `failovers` and check what came of it: `k` a kill -9, `h` a hanging primary, `s` a switch."""
    site = Site(service, folder, wait_replicas)
    try:
        site.work_until_shipped()
        for kind in failovers:
            match kind:
                case "k":
                    site.kill_primary()
                case "h":
                    site.hang_primary()
                case _:
                    service.switch(site.work)
            site.work_until_shipped()
        site.check()
    finally:
        site.end()
    return site


@pytest.mark.parametrize(("wait_replicas", "failovers"), [(0, "sk"), (1, "s"), (1, "k")])
def test_failovers_under_load(service: SentinelService, tmp_path: Path, wait_replicas: int, failovers: str) -> None:
    site = live_through(service, tmp_path, wait_replicas, failovers)
    assert any(mdt.errors for mdt in site.mdts), "no failover was seen"


@pytest.mark.soak
@pytest.mark.parametrize("wait_replicas", [0, 1])
def test_back_and_forth_for_long(service: SentinelService, tmp_path: Path, wait_replicas: int) -> None:
    site = live_through(service, tmp_path, wait_replicas, "shksskhkskks" * 3)
    for mdt in site.mdts:
        print(f"\n{mdt.name}: {mdt.shipped} events, {len(mdt.acknowledged)} positions, errors {dict(mdt.errors)}")
