"""A primary and its replica that change places, lose a stream's tail, or part ways, under a worker and maintenance."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import StreamBehind, StreamMoved, StreamRefused
from hsm_shipper.maintenance.cycle import run_cycle
from hsm_shipper.maintenance.reconcile import StateFileHealer
from hsm_shipper.stream.stream import ActionStream
from tests.conftest import PrivateServer
from tests.support.core import KEY, MDT, OneMdt, known_rows, line, lines, shipper_client
from tests.support.servers import RedisServer
from tests.support.truth import entries_of
from tests.support.waiting import eventually

LISTING = lines(range(1, 41))
LATER = [line(1, "STARTED"), *LISTING[1:-1], *lines(range(50, 60))]


class Pair:
    """Two servers, one of them the primary, and a name for it: `client` connects to whichever has the name now."""

    def __init__(self, one: RedisServer, two: RedisServer) -> None:
        self.servers = [one, two]
        self.client = shipper_client(one, 0)
        self.named = one
        two.follow(one)

    def name(self, server: RedisServer) -> None:
        """The name leads to `server`; who is connected notices as after a CLIENT KILL of a Sentinel."""
        self.named = server
        self.client.connection_pool.connection_kwargs["port"] = server.port
        self.client.connection_pool.disconnect()
        self.client.connection_pool.reset()  # its connections know the old port

    def in_step(self) -> bool:
        """Whether both have the same stream."""
        one, two = (entries_of(server.client(), KEY)[-1:] for server in self.servers)
        return one == two


@pytest.fixture
def pair(private_server: PrivateServer) -> Pair:
    return Pair(private_server(repl_diskless_sync_delay="0"), private_server(repl_diskless_sync_delay="0"))


@pytest.fixture
def mdt(tmp_path: Path, pair: Pair) -> OneMdt:
    return OneMdt(tmp_path / "mds1", pair.client)


def maintain(mdt: OneMdt, server: RedisServer) -> None:
    """A maintenance cycle for `mdt` that asks `server`."""
    with shipper_client(server, 0) as client:
        run_cycle(
            MDT,
            mdt.state,
            ActionStream(client, KEY, server.url),
            aggressive_trim_threshold=5000,
            consumer_group_backlog_max=1_000_000,
            keep_going=lambda: None,
        )


def belief(mdt: OneMdt) -> object:
    """Everything that the state file says of the stream."""
    state = StateFileHealer(mdt.state)
    try:
        return state.position(), known_rows(mdt.state)
    finally:
        state.close()


def old_primary(pair: Pair, mdt: OneMdt) -> RedisServer:
    """The replica was promoted and shipped to since; the old primary has come back, and takes writes."""
    old, new = pair.servers
    eventually(pair.in_step, 60)
    new.promote()
    pair.name(new)
    mdt.poll(*LATER)
    return old


def replica_that_is_behind(pair: Pair, mdt: OneMdt) -> RedisServer:
    """A replica that lost its primary's address."""
    replica = pair.servers[1]
    eventually(pair.in_step, 60)
    replica.client().replicaof("127.0.0.1", 1)
    mdt.poll(*LATER)
    return replica


def empty(pair: Pair, mdt: OneMdt) -> RedisServer:
    """A wrong address."""
    mdt.poll(*LATER)
    wrong = pair.servers[1]
    wrong.promote()
    wrong.client().flushall()
    return wrong


@pytest.mark.parametrize("which", [old_primary, replica_that_is_behind, empty], ids=lambda which: which.__name__)
def test_maintenance_at_a_server_that_is_behind_changes_nothing(
    pair: Pair, mdt: OneMdt, which: Callable[[Pair, OneMdt], RedisServer]
) -> None:
    mdt.poll(*LISTING)
    behind = which(pair, mdt)
    before, told = belief(mdt), entries_of(pair.named.client(), KEY)
    there = entries_of(behind.client(), KEY)
    with pytest.raises(StreamBehind, match="a server that is behind is not believed"):
        maintain(mdt, behind)
    assert belief(mdt) == before
    assert entries_of(behind.client(), KEY) == there
    assert mdt.poll(*LATER).events == {}
    assert entries_of(pair.named.client(), KEY) == told


def test_maintenance_at_a_server_with_another_history_changes_nothing(pair: Pair, mdt: OneMdt) -> None:
    """It is not behind by its ids, for somebody else went on writing there."""
    mdt.poll(*LISTING)
    old = old_primary(pair, mdt)
    other = OneMdt(mdt.state.parent.parent / "mds2", shipper_client(old, 0), host="mds2")
    other.poll(*LISTING, line(99))
    assert pack_id(other.stream.head().last_id) > pack_id(mdt.stream.head().last_id)
    before = belief(mdt)
    with pytest.raises(StreamMoved, match="does not hold the entry"):
        maintain(mdt, old)
    assert belief(mdt) == before
    assert mdt.poll(*LATER).events == {}
    mdt.check(*LATER)


def test_a_worker_takes_nothing_from_a_replica(pair: Pair, mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    replica = replica_that_is_behind(pair, mdt)
    before = belief(mdt)
    pair.name(replica)
    error = mdt.poller.poll().error
    assert isinstance(error, StreamRefused)
    assert "connect to the primary" in str(error)
    assert belief(mdt) == before
    pair.name(pair.servers[0])
    assert mdt.poll(*LATER).events == {}


def test_a_quiet_list_notices_that_its_primary_was_demoted(pair: Pair, mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    old, new = pair.servers
    eventually(pair.in_step, 60)
    new.promote()
    old.follow(new)
    assert isinstance(mdt.poller.poll().error, StreamRefused)


def test_primaries_that_change_places_under_load_have_no_entry_twice(pair: Pair, mdt: OneMdt, tmp_path: Path) -> None:
    """Back and forth, with and without waiting for the replica; maintenance asks now this one, now the other."""
    chance = random.Random(7)
    listing = dict.fromkeys(range(1, 41), "WAITING")
    for number in range(41, 161):
        listing[number] = "WAITING"
        listing[chance.choice(list(listing))] = chance.choice(["STARTED", "SUCCEED", "FAILED"])
        del listing[chance.choice(list(listing))]
        mdt.shows(*(line(rec, listing[rec]) for rec in sorted(listing)))
        mdt.poller.poll()
        if number % 3 == 0:
            _maintain_whatever_comes(mdt, chance.choice(pair.servers))
        if number % 10 == 0:
            _change_places(pair, wait=chance.random() < 0.5)
    shown = [line(rec, listing[rec]) for rec in sorted(listing)]
    mdt.shows(*shown)
    mdt.poller.poll()
    mdt.poll(*shown)
    mdt.check(*shown)


def _maintain_whatever_comes(mdt: OneMdt, server: RedisServer) -> None:
    try:
        maintain(mdt, server)
    except (StreamMoved, StreamRefused):
        return


def _change_places(pair: Pair, *, wait: bool) -> None:
    """The replica becomes the primary; without `wait` it may lack what came last."""
    old = pair.named
    [new] = [server for server in pair.servers if server is not old]
    if wait:
        eventually(pair.in_step, 60)
    new.promote()
    pair.name(new)
    old.follow(new)
