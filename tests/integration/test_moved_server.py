"""Redis behind an address that is moved to another server, while connections to the old one stay."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import cast

import msgspec
import pytest

from hsm_shipper.config import Config
from hsm_shipper.contract.heartbeat import Heartbeat, decode
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.errors import StreamRefused
from hsm_shipper.maintenance.main import Maintenance
from hsm_shipper.maintenance.run import MaintenanceRun
from hsm_shipper.stream import connection_age
from hsm_shipper.worker.main import run
from hsm_tools.live_state.follow import LiveStreams
from tests.conftest import PrivateServer
from tests.support.both_readers import Readers, readers
from tests.support.core import KEY, MDT, add, earlier_event, line, lines
from tests.support.group_takes import pending
from tests.support.polls import Polls
from tests.support.readings import take
from tests.support.relay import Relay
from tests.support.servers import RedisServer
from tests.support.truth import judge_stream
from tests.support.waiting import DEADLINE_S, eventually

__all__ = ["readers"]

LISTING = lines(range(1, 7))
BEAT = heartbeat_key("hsm:actions", MDT)


class Site:
    """A primary and its replica, an address that means the primary, and a worker whose Redis is at that address."""

    def __init__(self, folder: Path, make: PrivateServer) -> None:
        self.old, self.new = (make(repl_diskless_sync_delay="0") for _ in range(2))
        self.new.follow(self.old)
        self.relay = Relay(self.old)
        self.config = Config(
            redis_host=self.relay.host, redis_port=self.relay.port, redis_db=0, host="mds1",
            state_dir=str(folder / "state"), mdt_watch_glob=str(folder / "mdt" / "*" / "hsm" / "actions"),
        )  # fmt: skip
        self.actions = folder / "mdt" / MDT / "hsm" / "actions"
        self.actions.parent.mkdir(parents=True)
        self.polls = Polls()
        self._worker = threading.Thread(target=run, args=[self.config, MDT, self.actions, self.polls], daemon=True)

    def show(self, *listing: bytes) -> None:
        """The kernel's listing from now on."""
        self.actions.write_bytes(b"".join(data + b"\n" for data in listing))

    def start(self) -> None:
        """Start the worker; its first poll is over then."""
        self._worker.start()
        self.polls.begun()

    def promote(self) -> None:
        """The replica becomes the primary, and the address means it. The old primary knows nothing of it."""
        with self.old.client() as old, self.new.client() as new:  # WAIT looks at the writes of its own connection only
            told = old.info("replication")["master_repl_offset"]
            eventually(lambda: new.info("replication")["slave_repl_offset"] >= told)
        self.new.promote()
        self.relay.server = self.new

    def fail_over(self) -> None:
        """The two change places, and the address means the new primary."""
        self.promote()
        self.old.follow(self.new)

    def beat(self, server: RedisServer) -> Heartbeat:
        """The heartbeat that is there."""
        data = cast("bytes | None", server.client().get(BEAT))
        found = None if data is None else decode(data)
        assert found is not None, "no heartbeat"
        return found

    def close(self) -> None:
        """End the worker."""
        self.polls.end()
        if self._worker.ident is not None:
            self._worker.join(DEADLINE_S)
        self.relay.close()


@pytest.fixture
def site(tmp_path: Path, private_server: PrivateServer) -> Iterator[Site]:
    site = Site(tmp_path, private_server)
    yield site
    site.close()


@pytest.fixture
def no_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are kept for ever: what is answered must do."""
    monkeypatch.setattr(connection_age, "CONNECTION_AGE_MAX_S", float("inf"))


@pytest.fixture
def old_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is too old by the next command."""
    monkeypatch.setattr(connection_age, "CONNECTION_AGE_MAX_S", 0.0)


@pytest.fixture
def old_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader looks at every server that it reaches, and needs some time for that."""
    monkeypatch.setattr(connection_age, "CONNECTION_AGE_MAX_S", 2.0)


@pytest.mark.usefixtures("no_age")
@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "quiet"])
def test_a_demoted_primary_is_left_within_two_polls(
    site: Site, is_busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    site.show(*LISTING)
    site.start()
    before = site.beat(site.old).last_poll_at
    site.fail_over()
    listing = [line(1, "STARTED"), *LISTING[1:]] if is_busy else LISTING
    site.show(*listing)
    for _ in range(2):
        site.polls.next()
    after = site.beat(site.new)
    assert after.last_poll_at > before and after.last_error is None
    verdict = judge_stream(site.new.client(), KEY)
    assert (len(verdict.live), verdict.complaints) == (6, [])
    assert verdict.events == {"NEW": 6, **({"UPDATE": 1} if is_busy else {})}
    where = f"redis://{site.relay.host}:{site.relay.port}/0"
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any(where in text and "read only replica" in text for text in said), said


@pytest.mark.usefixtures("no_age")
def test_it_is_left_where_the_heartbeat_may_not_be_written_once_something_is_to_be_told(site: Site) -> None:
    for server in (site.old, site.new):
        user = ["mds1", "on", "nopass", "+@all", "-set", "~*"]
        server.client().execute_command("ACL", "SETUSER", *user)  # type: ignore[no-untyped-call]
    site.config = msgspec.structs.replace(site.config, redis_username="mds1")
    site.show(*LISTING)
    site.start()
    site.fail_over()
    for n in range(3):
        site.show(line(1, "STARTED"), *LISTING[1 : 5 - n])
        site.polls.next()
    assert len(judge_stream(site.new.client(), KEY).live) == 3


@pytest.mark.usefixtures("old_at_once")
def test_a_primary_that_was_cut_off_and_takes_writes_is_left_all_the_same(site: Site) -> None:
    site.show(*LISTING)
    site.start()
    site.promote()
    site.old.client().xadd(KEY, {"data": "what nobody else will ever see"})
    site.show(line(1, "STARTED"), *LISTING[1:])
    for _ in range(2):
        site.polls.next()
    assert judge_stream(site.new.client(), KEY).events == {"NEW": 6, "UPDATE": 1}
    assert site.beat(site.new).last_error is None


@pytest.mark.usefixtures("no_age")
def test_maintenance_looks_at_what_the_address_means_now(site: Site) -> None:
    site.show(*LISTING)
    site.start()
    maintenance = Maintenance(site.config)
    try:
        assert maintenance._lengths([MDT]) == {MDT: 6}
        site.promote()
        site.new.client().xadd(KEY, {"data": "later"})
        assert maintenance._lengths([MDT]) == {MDT: 7}
    finally:
        maintenance.stop()


@pytest.mark.usefixtures("no_age")
def test_a_maintenance_run_on_a_demoted_primary_fails_and_its_lock_keeps_out_no_other(site: Site) -> None:
    site.show(*LISTING)
    site.start()
    looks = count(1)

    def stopping() -> bool:
        if next(looks) == 2:  # the lock is taken by then
            site.fail_over()
        return False

    with pytest.raises(StreamRefused, match="read only replica"):
        MaintenanceRun(site.config, MDT, site.actions, stopping)()
    assert MaintenanceRun(site.config, MDT, site.actions, lambda: False)().live == 6


@pytest.mark.usefixtures("old_at_once")
def test_what_follows_the_streams_follows_to_the_new_primary(site: Site) -> None:
    with site.old.client() as client:
        add(client, *map(earlier_event, LISTING))
    streams = LiveStreams.from_config(site.config)
    streams.refresh()
    assert len(streams[MDT].live) == 6
    site.promote()
    add(site.new.client(), earlier_event(line(7)))
    streams.refresh()
    assert len(streams[MDT].live) == 7
    streams.close()


@pytest.mark.usefixtures("old_soon")
def test_a_reader_goes_on_at_the_new_primary(site: Site, readers: Readers) -> None:
    with site.old.client() as client:
        add(client, *map(earlier_event, LISTING))
    events = readers.from_config(site.config).events(from_beginning=True, block_ms=50)
    take(events, 6, DEADLINE_S)
    site.promote()
    [entry_id] = add(site.new.client(), earlier_event(line(7)))
    assert [event.id for event in take(events, 1, DEADLINE_S)] == [entry_id]


@pytest.mark.usefixtures("no_age")
def test_a_consumer_group_goes_on_at_the_new_primary(site: Site, readers: Readers) -> None:
    """A replica refuses to give entries, and to have them acknowledged."""
    with site.old.client() as client:
        add(client, *map(earlier_event, LISTING))
    with readers.from_config(site.config).group("g", "one", from_beginning=True) as group:
        events = group.events(block_ms=50)
        taken = take(events, 6, DEADLINE_S)
        site.fail_over()
        add(site.new.client(), earlier_event(line(7)))
        taken += take(events, 1, DEADLINE_S)
        group.ack(*taken)
    assert len({event.id for event in taken}) == 7
    assert pending(site.new.client(), KEY) == 0
