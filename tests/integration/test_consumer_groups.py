"""Consumer groups: each event at least once, to one consumer, through every kind of trouble."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hsm_shipper.errors import StreamRefused, StreamUnavailable
from hsm_tools.consumer import ConsumerGroup, StreamEvent, StreamReader
from hsm_tools.reading.outages import GROUP_COMMANDS
from tests.conftest import PrivateServer
from tests.integration.both_readers import Readers, reader, readers
from tests.integration.readings import MDT0, MDT1, add, idle_until, numbers, said, take
from tests.servers import RedisServer, free_port
from tests.waiting import eventually

__all__ = ["reader", "readers"]

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def pending(client: redis.Redis, stream: str = MDT0, group: str = "g") -> int:
    summary: Any = client.xpending(stream, group)
    return int(summary["pending"])


def handled(group: ConsumerGroup, count: int, events: Any = None) -> list[StreamEvent]:
    """Take `count` events and acknowledge each."""
    taken = []
    for event in events or group.events(block_ms=50):
        if event is not None:
            group.ack(event)
            taken.append(event)
        if len(taken) == count:
            break
    return taken


def nothing_comes(group: ConsumerGroup) -> bool:
    return next(group.events(block_ms=100)) is None


def test_each_event_is_given_to_one_consumer(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [0])
    one, two = reader.group("g", "one"), reader.group("g", "two")
    assert nothing_comes(one) and nothing_comes(two), "a group begins at the end unless it is told otherwise"
    add(client, MDT0, [1])
    assert numbers(handled(one, 1)) == [1]
    add(client, MDT0, [2])
    assert numbers(handled(two, 1)) == [2]
    assert nothing_comes(one) and nothing_comes(two)
    assert pending(client) == 0


def test_a_group_takes_up_where_it_was(client: redis.Redis, reader: StreamReader) -> None:
    ids = add(client, MDT0, range(10))
    with reader.group("g", from_beginning=True, batch_size=3) as group:
        assert numbers(handled(group, 4)) == [0, 1, 2, 3]
    with reader.group("g", from_beginning=True) as group:  # where it begins is asked but once
        assert numbers(handled(group, 6)) == [4, 5, 6, 7, 8, 9]
        assert nothing_comes(group)
    with reader.group("h", start={MDT0: ids[6]}) as group:
        assert numbers(handled(group, 3)) == [7, 8, 9]
    with reader.group("i", start=ids[7]) as group:
        assert numbers(handled(group, 2)) == [8, 9]


def test_what_was_not_acknowledged_comes_first_after_a_restart(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(6))
    first = reader.group("g", "me", from_beginning=True, batch_size=4)
    events = take(first.events(block_ms=50), 3)
    first.ack(events[1])
    first.close()
    assert pending(client) == 3
    again = reader.group("g", "me")
    assert numbers(handled(again, 5)) == [0, 2, 3, 4, 5]
    assert pending(client) == 0


def test_a_reading_that_is_given_up_leaves_nothing_behind(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(6))
    group = reader.group("g", from_beginning=True)
    assert numbers(handled(group, 2)) == [0, 1]
    assert numbers(handled(group, 2)) == [2, 3]
    assert numbers(next(group.batches(block_ms=50))) == [4, 5]


def test_batches_are_acknowledged_in_one_go(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(250))
    add(client, MDT1, range(120))
    group = reader.group("g", from_beginning=True, batch_size=100)
    sizes = []
    for batch in group.batches(block_ms=50):
        if not batch:
            break
        group.ack(*batch)
        sizes.append(len(batch))
    assert sizes == [200, 120, 50]
    assert pending(client) == pending(client, MDT1) == 0


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


def test_what_a_consumer_does_not_acknowledge_is_given_again(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [7])
    group = reader.group("g", from_beginning=True, reclaim_after_s=0.2)
    events = group.events(block_ms=50)
    first, again = take(events, 2)
    assert first == again
    assert group.deliveries(again) == 2


def test_malformed_entries_are_acknowledged_and_counted(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, [1])
    client.xadd(MDT0, {"data": "no json"})
    client.xadd(MDT0, {"other": "x"})
    group = reader.group("g", from_beginning=True)
    assert numbers(handled(group, 1)) == [1]
    assert nothing_comes(group)
    assert (pending(client), reader.malformed) == (0, 2)
    assert any("malformed" in text for text in said(caplog))


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


def test_a_stream_born_later_gets_the_group_from_its_first_entry(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [0])
    group = reader.group("g")
    assert nothing_comes(group)
    add(client, MDT1, range(3))
    assert numbers(handled(group, 3)) == [0, 1, 2]
    group.close()
    add(client, "hsm:actions:elm-MDT0002", range(10, 12))  # while no consumer of the group runs
    assert numbers(handled(reader.group("g"), 2)) == [10, 11]


def test_a_group_may_come_before_the_first_stream_and_makes_none(client: redis.Redis, reader: StreamReader) -> None:
    group = reader.group("g")
    assert nothing_comes(group)
    assert client.keys() == []
    add(client, MDT0, range(3))
    assert numbers(handled(group, 3)) == [0, 1, 2]


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
    from hsm_tools.reading.members import GroupMember

    add(client, MDT0, [0])
    group = reader.group("g", from_beginning=True)
    events = group.events(block_ms=50)
    assert numbers(handled(group, 1, events)) == [0]
    read_group = GroupMember._read_group
    lost: list[Any] = []

    def loses(self: GroupMember, ids: dict[bytes, bytes], block_s: float | None = None) -> Any:
        reply = yield from read_group(self, ids, block_s)
        if reply and not lost:
            lost.append(reply)
            raise redis.TimeoutError("the reply is lost")
        return reply

    monkeypatch.setattr(GroupMember, "_read_group", loses)
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


def test_the_permissions_that_are_asked_for_suffice(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server()
    admin = server.client()
    add(admin, MDT0, [1])
    commands = GROUP_COMMANDS.split()
    admin.acl_setuser("viewer", enabled=True, passwords="+pw", keys=["hsm:actions:*"], commands=commands)
    reader = readers(server.host, server.port, 0, username="viewer", password="pw")
    group = reader.group("g", from_beginning=True, reclaim_after_s=0.1)
    [event] = take(group.events(block_ms=50), 1)
    assert group.deliveries(event) == 1
    group.ack(event)
    admin.acl_setuser("viewer", enabled=True, commands=["-xack"])
    with pytest.raises(StreamRefused, match=r"\+xack"):
        group.ack(event)
    admin.acl_setuser("viewer", enabled=True, commands=["-xreadgroup"])
    with pytest.raises(StreamRefused, match=r"\+xreadgroup"):
        take(group.events(block_ms=50), 1)


@pytest.mark.parametrize(
    ("args", "what"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "g", "consumer": ""}, "consumer"),
        ({"name": "g", "reclaim_after_s": 0}, "reclaim_after_s"),
        ({"name": "g", "batch_size": 0}, "batch_size"),
        ({"name": "g", "start": "x"}, "start"),
        ({"name": "g", "start": "1-1", "from_beginning": True}, "from_beginning"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(readers: Readers, args: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        readers("127.0.0.1", free_port()).group(**args)


def test_its_end_closes_its_connections(
    redis_server: RedisServer, redis_db: int, client: redis.Redis, readers: Readers
) -> None:
    add(client, MDT0, range(3))
    connections = len(client.client_list())
    with readers(redis_server.host, redis_server.port, redis_db) as reader:
        with reader.group("g", from_beginning=True) as group:
            events = group.events()
            group.ack(next(events))
        assert pending(client) == 2
    eventually(lambda: len(client.client_list()) == connections)
    assert [*events] == []
