"""Readers of both kinds on a cluster: all events of all nodes, each once and in order, whatever the slots do."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError, StreamRefused, StreamUnavailable
from hsm_shipper.stream.connection import connect
from hsm_tools.consumer import StreamEvent, StreamReader
from hsm_tools.live_view import LiveView
from hsm_tools.reader import group_source
from tests.support.both_readers import Readers, readers
from tests.support.cluster_load import MDTS, Load
from tests.support.clusters import RedisCluster
from tests.support.core import add, earlier_event, line
from tests.support.servers import RedisServer
from tests.support.truth import entries_of
from tests.support.waiting import eventually

__all__ = ["readers"]

KEYS = [f"hsm:actions:{mdt}" for mdt in MDTS]


@pytest.fixture
def filled(cluster: RedisCluster) -> RedisCluster:
    """A stream of each MDT with two entries; they lie on all nodes."""
    for rec in (1, 2):
        for mdt in MDTS:
            append(cluster, mdt, rec)
    assert len({cluster.node_of(key).port for key in KEYS}) == 3
    return cluster


@pytest.fixture
def reader(filled: RedisCluster, readers: Readers) -> StreamReader:
    return readers(redis_url=filled.url)


def append(cluster: RedisCluster, mdt: str, rec: int) -> None:
    """An entry for record `rec` of `mdt`; its node may be changing places."""
    key = f"hsm:actions:{mdt}"
    with connect(Config(redis_url=cluster.url), key) as client:
        add(client, earlier_event(line(rec), mdt=mdt), key=key)


def recs(events: list[StreamEvent]) -> list[tuple[str, int]]:
    return sorted((event.mdt, event.data["rec_idx"]) for event in events)


def until_quiet(events: Iterator[StreamEvent | None]) -> list[StreamEvent]:
    """What comes before the next None."""
    found = []
    while (event := next(events)) is not None:
        found.append(event)
    return found


def at_least(count: int, events: Iterator[StreamEvent | None]) -> list[StreamEvent]:
    """What comes until there are so many, and it is quiet."""
    found: list[StreamEvent] = []

    def enough() -> bool:
        found.extend(until_quiet(events))
        return len(found) >= count

    eventually(enough)
    return found


ALL = sorted((mdt, rec) for mdt in MDTS for rec in (1, 2))


def test_streams_and_history(reader: StreamReader, filled: RedisCluster) -> None:
    assert reader.streams() == KEYS
    assert recs(list(reader.history())) == ALL
    assert sorted(reader.position) == KEYS
    assert recs(list(reader.history(last=3))) == ALL[-5::2]
    append(filled, MDTS[3], 3)
    assert recs(list(reader.history(start=reader.position))) == [(MDTS[3], 3)]


def test_silence_is_told_in_time_and_an_event_at_once(reader: StreamReader, filled: RedisCluster) -> None:
    events = reader.events(block_ms=400)
    begun = time.monotonic()
    assert next(events) is None
    assert time.monotonic() - begun >= 0.39
    threading.Timer(0.1, append, (filled, MDTS[5], 7)).start()
    assert recs([event for event in (next(events), next(events)) if event]) == [(MDTS[5], 7)]


def test_a_stream_that_is_born_is_found_on_any_node(reader: StreamReader, filled: RedisCluster) -> None:
    events = reader.events(block_ms=100)
    assert next(events) is None
    for number in range(8, 14):
        append(filled, f"elm-MDT{number:04x}", 1)
    found = at_least(6, events)
    assert recs(found) == [(f"elm-MDT{number:04x}", 1) for number in range(8, 14)]


def test_a_slot_that_moves_costs_no_event_and_repeats_none(reader: StreamReader, filled: RedisCluster) -> None:
    events = reader.events(from_beginning=True, block_ms=100)
    assert recs(until_quiet(events)) == ALL
    mdt, key = MDTS[0], KEYS[0]
    append(filled, mdt, 3)
    source, target = filled.begin_move(key)
    assert recs(until_quiet(events)) == [(mdt, 3)]
    append(filled, mdt, 4)
    filled.move_keys(key, source, target)
    assert recs(until_quiet(events)) == [(mdt, 4)], "it is read where it is on its way to"
    assert recs(list(reader.history())) == sorted([*ALL, (mdt, 3), (mdt, 4)])
    filled.end_move(key, source, target)
    append(filled, mdt, 5)
    assert recs(until_quiet(events)) == [(mdt, 5)]
    assert until_quiet(events) == []


def test_a_failover_costs_no_event_and_repeats_none(reader: StreamReader, filled: RedisCluster) -> None:
    events = reader.events(from_beginning=True, block_ms=100)
    assert recs(until_quiet(events)) == ALL
    for rec in (3, 4):
        filled.fail_over(KEYS[0])
        append(filled, MDTS[0], rec)
        found = at_least(1, events)
        assert recs(found) == [(MDTS[0], rec)]
    assert until_quiet(events) == []


def test_a_search_never_overlooks_a_stream_that_hops(reader: StreamReader, filled: RedisCluster) -> None:
    ending = threading.Event()

    def hop() -> None:
        while not ending.is_set():
            for key in KEYS[:2]:
                filled.move(key)

    thread = threading.Thread(target=hop)
    thread.start()
    try:
        for _ in range(40):
            assert reader.streams() == KEYS
    finally:
        ending.set()
        thread.join()


def test_a_search_finds_all_while_nodes_change_places(reader: StreamReader, filled: RedisCluster) -> None:
    thread = threading.Thread(target=filled.fail_over, args=(KEYS[0],))
    thread.start()
    searches = 0
    while thread.is_alive() or searches < 5:
        assert reader.streams() == KEYS
        searches += 1
    thread.join()


def test_a_group_gives_each_event_once(filled: RedisCluster, readers: Readers) -> None:
    with readers(redis_url=filled.url) as one, readers(redis_url=filled.url) as two:
        groups = [one.group("g", "one", from_beginning=True), two.group("g", "two", from_beginning=True)]
        given: Counter[tuple[str, int]] = Counter()
        readings = [group.events(block_ms=100) for group in groups]
        for mdt in MDTS[:4]:
            filled.move(f"hsm:actions:{mdt}")
        for rec in (3, 4, 5):
            for mdt in MDTS:
                append(filled, mdt, rec)
            for group, reading in zip(groups, readings, strict=True):
                for event in until_quiet(reading):
                    given[event.mdt, event.data["rec_idx"]] += 1
                    group.ack(event)
        for group, reading in zip(groups, readings, strict=True):
            for event in until_quiet(reading):
                given[event.mdt, event.data["rec_idx"]] += 1
                assert group.deliveries(event) == 1
        assert {*given.values()} == {1} and len(given) == 5 * len(MDTS)


def test_a_group_overlooks_no_event_in_a_failover(filled: RedisCluster, readers: Readers) -> None:
    with readers(redis_url=filled.url) as reader, reader.group("g", from_beginning=True, reclaim_after_s=0.5) as group:
        events = group.events(block_ms=100)
        given: set[tuple[str, int]] = set()

        def is_given() -> bool:
            for event in until_quiet(events):
                given.add((event.mdt, event.data["rec_idx"]))
                group.ack(event)
            return len(given) >= expected

        for rec in (3, 4, 5):
            threading.Timer(0.05, filled.fail_over, (KEYS[rec],)).start()
            for mdt in MDTS:
                append(filled, mdt, rec)
            expected = len(MDTS) * rec
            eventually(is_given)
        group.close()
    filled.wait_until_whole()
    for key in KEYS:
        with filled.client_of(key) as client:
            assert [info["pending"] for info in client.xinfo_groups(key)] == [0]


def test_a_group_that_one_node_cannot_make_yet_begins_there_later_and_not_with_its_history(
    filled: RedisCluster, readers: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    with readers(redis_url=filled.url) as reader, reader.group("g") as group, filled.client_of(KEYS[0]) as refusing:
        events = group.events(block_ms=100)
        refusing.config_set("min-replicas-to-write", 9)
        try:
            eventually(lambda: next(events) is None and "NOREPLICAS" in caplog.text)
        finally:
            refusing.config_set("min-replicas-to-write", 0)
        eventually(lambda: next(events) is None and refusing.xinfo_groups(KEYS[0]))
        append(filled, MDTS[0], 3)
        assert recs(eventually(lambda: until_quiet(events))) == [(MDTS[0], 3)]


def test_a_group_that_was_begun_by_half_is_waited_for(
    filled: RedisCluster, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another consumer creates it on one stream after the other; what is not its half yet is no newborn stream."""
    monkeypatch.setattr(group_source, "SETTLING_S", 8.0)  # the other one may have a busy machine
    clients = {key: filled.client_of(key) for key in KEYS}
    for client in clients.values():
        client.ping()
    clients[KEYS[0]].xgroup_create(KEYS[0], "g", "$")

    def create_the_rest() -> None:
        for key in KEYS[1:]:
            clients[key].xgroup_create(key, "g", "$")

    threading.Timer(0.3, create_the_rest).start()
    with readers(redis_url=filled.url) as reader, reader.group("g", "two") as group:
        assert until_quiet(group.events(block_ms=300)) == []


def test_a_group_that_is_destroyed_on_one_stream_loses_nothing_on_the_others(
    filled: RedisCluster, readers: Readers
) -> None:
    with readers(redis_url=filled.url) as reader, reader.group("g", from_beginning=True) as group:
        events = group.events(block_ms=100)
        for event in until_quiet(events):
            group.ack(event)
        with filled.client_of(KEYS[7]) as client:
            client.xgroup_destroy(KEYS[7], "g")
        for mdt in MDTS:
            append(filled, mdt, 3)
        found = at_least(len(MDTS), events)
        assert {(mdt, 3) for mdt in MDTS} <= {*recs(found)}


@pytest.mark.parametrize("db", [0, 1])
def test_one_node_of_a_cluster_is_no_server(filled: RedisCluster, readers: Readers, db: int) -> None:
    node = filled.nodes[0]
    reader = readers(redis_url=f"redis://{node.host}:{node.port}/{db}")
    for read in (reader.streams, lambda: list(reader.history()), lambda: next(reader.events())):
        with pytest.raises(StreamRefused, match="one node of a Redis Cluster") as refused:
            read()
        assert f"redis+cluster://{node.host}:{node.port}" in refused.value.hint
    with LiveView(redis_url=f"redis://{node.host}:{node.port}/{db}") as view, pytest.raises(StreamRefused):
        view.refresh()


def test_one_server_is_no_cluster(redis_server: RedisServer, readers: Readers) -> None:
    with pytest.raises(StreamRefused, match="is no node of a cluster") as refused:
        readers(redis_url=f"redis+cluster://127.0.0.1:{redis_server.port}").streams()
    assert refused.value.hint == f"name it by redis://127.0.0.1:{redis_server.port}/DB"
    with pytest.raises(ConfigError, match="a cluster has no socket"):
        readers(redis_url="redis+cluster://h", unix_socket_path="/s")


def test_a_cluster_with_a_hole_is_no_answer(filled: RedisCluster, readers: Readers) -> None:
    """Whether its slots are served by none, or by a node that is down."""
    reader = readers(redis_url=filled.url)
    events = reader.events(from_beginning=True, block_ms=100)
    until_quiet(events)
    victim = filled.node_of(KEYS[0])
    lost = {key for key in KEYS if filled.node_of(key) is victim}
    filled.partner_of(victim).kill()
    victim.kill()
    for read in (reader.streams, lambda: list(reader.history())):
        with pytest.raises(StreamUnavailable):
            read()
    view = LiveView(redis_url=filled.url)
    with pytest.raises(StreamUnavailable):
        view.refresh()
    view.close()
    filled.heal()
    assert {*KEYS} - {*reader.streams()} == lost, "the two had saved nothing"
    append(filled, MDTS[0], 9)
    append(filled, MDTS[1], 9)
    found = at_least(2, events)
    assert recs(found) == [(MDTS[0], 9), (MDTS[1], 9)]


def test_what_is_read_under_load_is_what_was_shipped(cluster: RedisCluster, readers: Readers, tmp_path: Path) -> None:
    """While eight MDTs change, and their slots move."""
    load = Load(cluster, tmp_path)
    reader = readers(redis_url=cluster.url)
    events = reader.events(from_beginning=True, block_ms=500)
    view = LiveView(redis_url=cluster.url)

    def reshard(ending: threading.Event) -> None:
        while not ending.is_set():
            for mdt in load.mdts:
                cluster.move(mdt.key)

    with load.under(reshard):
        for _ in range(10):
            load.rounds(2)
            view.refresh()
            assert view.troubles == {}
    load.settle()
    load.check()
    shipped = set()
    for key in KEYS:
        with cluster.client_of(key) as client:
            shipped |= {(key, entry_id) for entry_id, _ in entries_of(client, key)}
    found = [(event.stream, event.id) for event in at_least(len(shipped), events)]
    assert len(found) == len({*found}) and shipped <= {*found}
    view.refresh()
    assert len(view) == sum(len(mdt.listing) for mdt in load.mdts)
    view.close()
    load.close()
