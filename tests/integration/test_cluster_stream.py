"""One stream in a cluster, as the shipper speaks to it: whatever its slot does, nothing is done twice or half read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_address import parse_url
from hsm_shipper.contract.redis_keys import heartbeat_key, maintenance_key
from hsm_shipper.errors import ReplayOvertaken, StreamRefused, StreamUnavailable
from hsm_shipper.stream import maintenance_lock
from hsm_shipper.stream.cluster import NodeFinder
from hsm_shipper.stream.cluster_map import ClusterNodes
from hsm_shipper.stream.connection import address, client_kwargs, connect
from hsm_shipper.stream.maintenance_lock import MaintenanceLock
from hsm_shipper.stream.page_reader import PAGE_ENTRIES
from hsm_shipper.stream.replay import Replay
from hsm_shipper.stream.stream import ActionStream
from tests.support.clusters import RedisCluster
from tests.support.core import KEY, MDT, OneMdt, add, line, lines
from tests.support.servers import RedisServer
from tests.support.truth import entries_of


@pytest.fixture
def config(cluster: RedisCluster) -> Config:
    return Config(redis_url=f"{cluster.url}?socket_timeout=2")


@pytest.fixture
def client(config: Config) -> Iterator[redis.Redis]:
    with connect(config, KEY) as client:
        yield client


@pytest.fixture
def stream(client: redis.Redis, config: Config) -> ActionStream:
    return ActionStream(client, KEY, address(config))


def test_a_poll_ships_whatever_the_slot_does(cluster: RedisCluster, client: redis.Redis, tmp_path: Path) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    mdt.poll(line(1))
    source, target = cluster.begin_move(KEY)
    mdt.poll(line(1, "STARTED"))
    cluster.move_keys(KEY, source, target)
    mdt.poll(line(1, "STARTED"), line(2))
    mdt.poll(line(2))
    assert client.set(heartbeat_key("hsm:actions", MDT), "beat")
    cluster.end_move(KEY, source, target)
    assert client.get(heartbeat_key("hsm:actions", MDT)) == b"beat"
    mdt.poll(line(2, "SUCCEED"))
    cluster.fail_over(KEY)
    mdt.poll()
    mdt.restart()
    cluster.move(KEY)
    mdt.poll(line(3))
    assert mdt.told() == [
        "NEW 1/1 WAITING",
        "UPDATE 1/1 STARTED",
        "NEW 1/2 WAITING",
        "PURGED 1/1 STARTED",
        "UPDATE 1/2 SUCCEED",
        "PURGED 1/2 SUCCEED",
        "NEW 1/3 WAITING",
    ]
    mdt.check(line(3))


def test_a_batch_that_is_on_its_way_goes_where_the_slot_is(cluster: RedisCluster, stream: ActionStream) -> None:
    head = stream.head()
    cluster.move(KEY)
    pending = stream.start_append(head, [b"{}", b"{}"])
    assert len(pending.entry_ids) == 0
    head = pending.finish()
    assert head.length == 2 and len(pending.entry_ids) == 2
    cluster.move(KEY)
    assert stream.compare(head).end == head.end
    with cluster.client_of(KEY) as there:
        assert len(entries_of(there, KEY)) == 2


def test_a_replay_that_a_slot_has_left_begins_again(
    cluster: RedisCluster, stream: ActionStream, client: redis.Redis
) -> None:
    add(client, *[b"{}"] * (3 * PAGE_ENTRIES))
    until = stream.head().last_id
    moved = False

    def move(_page: object) -> None:
        nonlocal moved
        if not moved:
            moved = True
            client.connection_pool.disconnect(inuse_connections=False)
            cluster.move(KEY)

    pages = stream.replay(until)
    move(next(pages))
    with pytest.raises(ReplayOvertaken, match="went to another node while it was read"):
        for _ in pages:
            pass
    moved = False
    replay = Replay(stream, move)
    replay.go_on(until)
    assert moved and replay.entries == 3 * PAGE_ENTRIES


def test_the_lock_goes_with_its_slot(
    cluster: RedisCluster, stream: ActionStream, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_lock, "RENEW_AFTER_S", 0.0)
    key = maintenance_key("hsm:actions", MDT)
    with MaintenanceLock(client, key, stream, "mds1") as lock:
        source, target = cluster.begin_move(KEY)
        cluster.move_keys(KEY, source, target)
        lock.keep()
        cluster.end_move(KEY, source, target)
        lock.keep()
        cluster.fail_over(KEY)
        lock.keep()
        with cluster.client_of(KEY) as there:
            assert there.pttl(key) > 0
    with cluster.client_of(KEY) as there:
        assert not there.exists(key)


def test_a_cluster_that_is_down_is_tried_again(cluster: RedisCluster, client: redis.Redis, tmp_path: Path) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    mdt.poll(*lines(range(5)))
    victim = cluster.node_of(KEY)
    cluster.partner_of(victim).kill()
    victim.kill()
    for _ in range(3):
        mdt.shows(line(9))
        assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    cluster.heal()
    mdt.poll(line(9))
    mdt.check(line(9))


def test_other_nodes_are_asked_when_those_of_the_address_are_gone(cluster: RedisCluster) -> None:
    """Once they have told of the others."""
    only = cluster.nodes[0]
    url = f"redis+cluster://{only.host}:{only.port}"
    kwargs = client_kwargs(Config(redis_url=url))
    finder = NodeFinder(ClusterNodes(parse_url(url)), kwargs)
    finder.slot_map()
    only.kill()
    assert finder.slot_map().primaries
    with pytest.raises(redis.ConnectionError, match="no node of the cluster answers"):
        NodeFinder(ClusterNodes(parse_url(url)), kwargs).slot_map()


def test_a_single_server_is_no_cluster(redis_server: RedisServer) -> None:
    config = Config(redis_url=f"redis+cluster://127.0.0.1:{redis_server.port}")
    with connect(config, KEY) as client, pytest.raises(StreamRefused, match="is no node of a cluster; name it by"):
        ActionStream(client, KEY, address(config)).head()
