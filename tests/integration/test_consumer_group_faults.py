"""Consumer groups in trouble: each event at least once, whatever happens to the stream, the server or the consumer."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hsm_shipper.errors import StreamUnavailable
from hsm_tools.consumer import StreamReader
from tests.conftest import PrivateServer
from tests.support.both_readers import Readers, reader, readers
from tests.support.group_takes import handled, nothing_comes, pending
from tests.support.readings import DURABLE, MDT0, MDT1, add, idle_until, numbers, said, stay_idle, take
from tests.support.servers import RedisServer

__all__ = ["reader", "readers"]


def test_another_consumer_takes_over_from_a_dead_one(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(5))
    dead = reader.group("g", "dead", from_beginning=True)
    events = take(dead.events(block_ms=50), 5)
    dead.ack(*events[:2])
    alive = reader.group("g", "alive", reclaim_after_s=1)
    taken = take(alive.events(block_ms=50), 3)
    assert numbers(taken) == [2, 3, 4]
    assert [alive.deliveries(event) for event in taken] == [2, 2, 2]
    alive.ack(*taken)
    assert [alive.deliveries(event) for event in taken] == [0, 0, 0]
    assert (alive.reclaimed, pending(client)) == (3, 0)
    assert said(caplog) == [
        f"{MDT0}: 3 entries that nobody acknowledged for 1 s are given to consumer alive of group g"
    ]


@pytest.mark.parametrize("how", ["own", "reclaimed"])
def test_pending_entries_that_were_trimmed_are_acknowledged_and_said(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    add(client, MDT0, range(5))
    take(reader.group("g", "one", from_beginning=True).events(block_ms=50), 5)
    client.xtrim(MDT0, maxlen=2, approximate=False)
    group = reader.group("g", "one") if how == "own" else reader.group("g", "two", reclaim_after_s=0.2)
    assert numbers(handled(group, 2)) == [3, 4]
    assert nothing_comes(group)
    assert f"{MDT0}: 3 entries were removed before group g had handled them" in said(caplog)
    assert pending(client) == 0


def test_entries_that_were_trimmed_before_the_group_was_given_them_are_said_once(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(10))
    group = reader.group("g", "one", from_beginning=True, batch_size=3)
    [*batch] = next(group.batches(block_ms=50))
    group.ack(*batch)
    group.close()
    client.xtrim(MDT0, maxlen=5, approximate=False)
    group = reader.group("g", "two")
    events = group.events(block_ms=50)
    assert numbers(handled(group, 5, events)) == [5, 6, 7, 8, 9]
    removed = f"{MDT0}: 2 entries were removed before group g had handled them"
    assert said(caplog) == [removed]
    stay_idle(client, events)
    client.xtrim(MDT0, maxlen=0, approximate=False)  # what was handled may go
    add(client, MDT0, [10])
    assert numbers(handled(group, 1, events)) == [10]
    stay_idle(client, events)
    assert said(caplog) == [removed]


def test_a_flush_and_a_destroyed_group_are_said_and_lose_nothing(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(3))
    group = reader.group("g", from_beginning=True)
    events = group.events(block_ms=50)
    assert numbers(handled(group, 3, events)) == [0, 1, 2]
    client.flushdb()
    idle_until(events, lambda: said(caplog))
    assert said(caplog) == [f"{MDT0} is gone (deleted or flushed): group g begins anew if it returns"]
    add(client, MDT0, [3, 4])
    assert numbers(handled(group, 2, events)) == [3, 4]
    caplog.clear()
    client.xgroup_destroy(MDT0, "g")
    assert numbers(handled(group, 2, events)) == [3, 4]
    assert said(caplog) == [
        f"{MDT0} has lost its group g (recreated, or the group destroyed): all that it holds is given again"
    ]


def test_what_was_given_of_a_stream_that_is_gone_is_pending_no_more(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [0])
    group = reader.group("g", from_beginning=True)
    [event] = take(group.events(block_ms=50), 1)
    assert group.deliveries(event) == 1
    client.xgroup_destroy(MDT0, "g")
    assert group.deliveries(event) == 0
    client.flushdb()
    assert group.deliveries(event) == 0
    client.set(MDT0, "no stream")
    assert group.deliveries(event) == 0


def test_a_stream_made_anew_between_two_looks_is_given_whole(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(3))
    group = reader.group("g")
    events = group.events(block_ms=50)
    assert next(events) is None
    pipe = client.pipeline()
    pipe.delete(MDT0)
    for n in (5, 6):
        pipe.xadd(MDT0, {"data": f'{{"rec_idx": {n}}}'}, id=f"{n}-1")
    pipe.execute()
    assert numbers(handled(group, 2, events)) == [5, 6]


def test_a_key_that_becomes_something_else_does_not_stop_the_others(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, [0])
    add(client, MDT1, [0])
    group = reader.group("g")
    events = group.events(block_ms=50)
    assert next(events) is None
    client.set(MDT0, "no stream")
    add(client, MDT1, [1])
    assert numbers(handled(group, 1, events)) == [1]
    assert f"{MDT0} is no stream any more but a string: it is not read" in said(caplog)


def test_a_server_that_is_killed_costs_nothing(
    private_server: PrivateServer, readers: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server(**DURABLE)
    add(server.client(), MDT0, range(4))
    group = readers(server.host, server.port, 0).group("g", "me", from_beginning=True)
    events = group.events(block_ms=50)
    first = take(events, 4)
    group.ack(*first[:2])
    server.kill()
    group.ack(*first[2:])  # which is told when there is a server again
    idle_until(events, lambda: said(caplog))
    with pytest.raises(StreamUnavailable):
        group.deliveries(first[0])
    server.start()
    add(server.client(), MDT0, [4, 5])
    assert numbers(handled(group, 2, events)) == [4, 5]
    assert pending(server.client()) == 0
    assert [text for text in said(caplog) if "back after" in text]


def test_acknowledgements_that_cannot_be_sent_are_said_at_the_end(
    private_server: PrivateServer, readers: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server(**DURABLE)
    add(server.client(), MDT0, range(3))
    with readers(server.host, server.port, 0).group("g", from_beginning=True) as group:
        events = take(group.events(block_ms=50), 3)
        server.kill()
        group.ack(*events)
    [line] = said(caplog)
    assert line.startswith("3 acknowledgements to group g could not be sent (")
    server.start()
    assert pending(server.client()) == 3


@pytest.mark.parametrize("first_write", ["to create the group", "to read by it"])
def test_a_primary_that_takes_no_writes_for_a_while_is_waited_for(
    private_server: PrivateServer, readers: Readers, caplog: pytest.LogCaptureFixture, first_write: str
) -> None:
    """As after a failover, until the new primary has replicas (min-replicas-to-write)."""
    server = private_server()
    client = server.client()
    add(client, MDT0, range(3))
    group = readers(server.host, server.port, 0).group("g", from_beginning=True)
    events = group.events(block_ms=50)
    read = take(events, 3) if first_write == "to read by it" else []
    client.config_set("min-replicas-to-write", 1)
    group.ack(*read)
    idle_until(events, lambda: said(caplog))
    assert "NOREPLICAS" in said(caplog)[0] and said(caplog)[0].endswith(
        "too few replicas are in step (min-replicas-to-write): look at the replicas"
    )
    client.config_set("min-replicas-to-write", 0)
    add(client, MDT0, [3])
    assert numbers(handled(group, 4 - len(read), events)) == [*range(len(read), 4)]
    assert pending(client) == 0


def test_a_server_that_rolled_back_gives_again_what_it_forgot(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server()
    client = server.client()
    group = readers(server.host, server.port, 0).group("g", from_beginning=True)
    events = group.events(block_ms=50)
    add(client, MDT0, range(3))
    assert numbers(handled(group, 3, events)) == [0, 1, 2]
    client.save()
    add(client, MDT0, [3])
    assert numbers(handled(group, 1, events)) == [3]
    server.kill()
    server.start()
    add(server.client(), MDT0, [4])
    assert numbers(handled(group, 1, events)) == [4]


def test_an_interrupted_reading_gives_again_what_nobody_saw(
    client: redis.Redis, reader: StreamReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to an XREADGROUP is lost: its entries are pending with us, and unknown to us."""
    from hsm_tools.reader.group_source import GroupSource

    add(client, MDT0, [0])
    group = reader.group("g", from_beginning=True)
    events = group.events(block_ms=50)
    assert numbers(handled(group, 1, events)) == [0]
    read_group = GroupSource._read_group
    lost: list[Any] = []

    def loses(self: GroupSource, ids: dict[bytes, bytes], block_s: float | None = None) -> Any:
        reply = yield from read_group(self, ids, block_s)
        if reply and not lost:
            lost.append(reply)
            raise redis.TimeoutError("the reply is lost")
        return reply

    monkeypatch.setattr(GroupSource, "_read_group", loses)
    add(client, MDT0, [1, 2])
    assert numbers(handled(group, 2, events)) == [1, 2]
    assert lost and pending(client) == 0


def test_cancelled_waits_lose_nothing(client: redis.Redis, redis_server: RedisServer, redis_db: int) -> None:
    import asyncio

    from hsm_tools.aio import AsyncStreamReader

    async def read() -> list[int]:
        got: list[int] = []
        async with AsyncStreamReader(redis_server.host, redis_server.port, redis_db) as reader:
            group = reader.group("g", from_beginning=True)
            events = group.events(block_ms=20)
            for turn in range(60):
                add(client, MDT0, [turn])
                try:
                    async with asyncio.timeout(turn % 10 / 3000):
                        event = await anext(events)
                except TimeoutError:
                    continue
                if event is not None:
                    got.append(event.data["rec_idx"])
            while len(got) < 60:
                event = await anext(events)
                if event is not None:
                    got.append(event.data["rec_idx"])
        return got

    assert asyncio.run(read()) == [*range(60)]
