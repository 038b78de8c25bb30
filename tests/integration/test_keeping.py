"""Acknowledged means kept: what a worker does while replicas or disks do not have what it ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.commands.check_redis import redis_findings
from hsm_shipper.commands.findings import Finding, Level
from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError, StreamNotKept, StreamRefused
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.stream.keeping import Keeping
from hsm_shipper.worker.line_index import LineIndex
from tests.conftest import PrivateServer
from tests.support.core import KEY, OneMdt, Wire, line, lines, shipper_client
from tests.support.servers import RedisServer
from tests.support.truth import entries_of
from tests.support.waiting import DEADLINE_S

LISTING = lines(range(1, 6))
ONE_REPLICA = Keeping(replicas=1, fsync=False, timeout_s=0.3)
ON_DISK = Keeping(replicas=0, fsync=True, timeout_s=DEADLINE_S)


class Pair:
    """A primary and its replica, and an MDT whose worker wants both to have what it ships."""

    def __init__(self, primary: RedisServer, replica: RedisServer, folder: Path) -> None:
        self.primary, self.replica = primary, replica
        replica.follow(primary)
        self.wire = Wire()
        self.mdt = OneMdt(folder, shipper_client(primary, 0, self.wire))
        self.mdt.stream.keeping = ONE_REPLICA._replace(timeout_s=DEADLINE_S)
        self.mdt.poll(*LISTING)
        self.mdt.stream.keeping = ONE_REPLICA

    def error(self, *listing: bytes) -> HsmError | None:
        """How a poll that shows `listing` fails."""
        self.mdt.shows(*listing)
        return self.mdt.poller.poll().error

    def committed(self) -> str:
        """The position in the state file."""
        state = StateFile(self.mdt.state)
        try:
            head, *_ = state.load(LineIndex)
        finally:
            state.close()
        assert head is not None
        return head.last_id


@pytest.fixture
def pair(private_server: PrivateServer, tmp_path: Path) -> Iterator[Pair]:
    one, two = (private_server(repl_diskless_sync_delay="0") for _ in range(2))
    pair = Pair(one, two, tmp_path / "mds1")
    yield pair
    pair.mdt.replica.close()


def test_what_no_replica_has_is_not_committed_and_not_sent_twice(pair: Pair) -> None:
    mdt = pair.mdt
    before = pair.committed()
    pair.replica.pause()
    error = pair.error(*LISTING, line(9))
    assert isinstance(error, StreamNotKept)
    assert "an entry of stream hsm:actions:elm-MDT0000 at redis://test: it reached 0 of 1 replicas after 0.3 s" in str(
        error
    )
    assert pair.committed() == before
    told = entries_of(mdt.client, KEY)
    assert len(told) == len(LISTING) + 1
    # Nothing is added while it lasts, whatever comes and goes; a restart changes nothing.
    for _ in range(2):
        assert isinstance(pair.error(*LISTING, line(9), line(10)), StreamNotKept)
        mdt.restart()
    assert entries_of(mdt.client, KEY) == told
    assert pair.committed() == before
    pair.replica.resume()
    mdt.stream.keeping = ONE_REPLICA._replace(timeout_s=DEADLINE_S)
    result = mdt.poll(*LISTING, line(9), line(10))
    assert (result.events, result.states_missed) == ({"NEW": 1}, 0)
    mdt.check(*LISTING, line(9), line(10))
    with pair.replica.client() as there:
        assert entries_of(there, KEY)[-1][0] == pair.committed()


def test_a_listing_of_many_batches_goes_on_where_it_was_held_up(pair: Pair) -> None:
    long = lines(range(1, 3500))
    pair.replica.pause()
    assert isinstance(pair.error(*long), StreamNotKept)
    assert len(entries_of(pair.mdt.client, KEY)) <= len(LISTING) + 1000  # a batch
    pair.replica.resume()
    pair.mdt.stream.keeping = ONE_REPLICA._replace(timeout_s=DEADLINE_S)
    pair.mdt.poll(*long)
    pair.mdt.check(*long)


def test_an_unchanged_list_needs_no_replica(pair: Pair) -> None:
    pair.replica.kill()
    assert pair.error(*LISTING) is None


def test_a_first_catch_up_takes_nothing_that_is_not_kept(pair: Pair, tmp_path: Path) -> None:
    pair.replica.kill()
    other = OneMdt(tmp_path / "mds2", pair.mdt.client, host="mds2")
    other.stream.keeping = ONE_REPLICA
    other.shows(*LISTING)
    error = other.poller.poll().error
    assert isinstance(error, StreamNotKept)
    assert "holds reached 0 of 1 replicas" in str(error)
    assert other.known_rows() == []


def test_nothing_is_waited_for_unless_it_is_asked_for(pair: Pair) -> None:
    pair.replica.kill()
    pair.mdt.stream.keeping = Keeping.configured(Config())
    pair.wire.sent.clear()
    pair.mdt.poll(*LISTING, line(9))
    assert set(pair.wire.sent) == {"EVALSHA"}
    assert pair.mdt.stream.keeping is None


def knows_waitaof(server: RedisServer) -> bool:
    """Redis 7.2 and Valkey do."""
    with server.client() as client:
        return "waitaof" in client.command()


def test_what_is_on_disk_is_kept(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server(appendonly="yes")
    mdt = OneMdt(tmp_path / "mds1", shipper_client(server, 0))
    mdt.stream.keeping = ON_DISK
    if knows_waitaof(server):
        mdt.poll(*LISTING)
        mdt.check(*LISTING)
        return
    mdt.shows(*LISTING)
    error = mdt.poller.poll().error
    assert isinstance(error, StreamRefused)
    assert "Redis 7.2 or Valkey" in error.hint


def test_a_server_that_writes_nothing_to_disk_is_said_to(private_server: PrivateServer, tmp_path: Path) -> None:
    mdt = OneMdt(tmp_path / "mds1", shipper_client(private_server(), 0))
    mdt.stream.keeping = ON_DISK
    mdt.shows(*LISTING)
    error = mdt.poller.poll().error
    assert isinstance(error, StreamRefused)
    assert "redis_wait_fsync needs `appendonly yes`" in error.hint


def kept(server: RedisServer, **wanted: object) -> Finding:
    """What `check` says of it."""
    config = Config(redis_port=server.port, redis_db=0, redis_wait_timeout_s=0.3, **wanted)  # type: ignore[arg-type]
    *_, finding = redis_findings(config, None)
    return finding


def test_check_tries_whether_a_write_is_kept(pair: Pair, private_server: PrivateServer) -> None:
    pair.mdt.stream.confirm_kept()
    assert kept(pair.primary, redis_wait_replicas=1).level is Level.OK
    finding = kept(pair.primary, redis_wait_replicas=3)
    assert finding.level is Level.PROBLEM
    assert "reached 1 of 3 replicas after 0.3 s" in finding.text
    assert "INFO replication" in finding.advice
    finding = kept(private_server(), redis_wait_fsync=True)
    assert finding.level is Level.PROBLEM
    assert "redis_wait_fsync needs `appendonly yes`" in finding.advice


@pytest.mark.parametrize(("reply", "text"), [([0, 0], "is not on the disk"), ([1, 1], "on those of 1 of 2 replicas")])
def test_how_far_it_got_is_said_of_disks(reply: list[int], text: str) -> None:
    class Answers:
        def send_command(self, *words: object) -> None:
            assert words == ("WAITAOF", 1, 2, 1500)

        def read_response(self) -> list[int]:
            return reply

    with pytest.raises(StreamNotKept, match=text):
        Keeping(2, True, 1.5).wait(Answers(), "an entry")
