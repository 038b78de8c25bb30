"""Consumer groups: each event to one consumer, and again until it is acknowledged."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from hsm_shipper.contract.acl_commands import GROUP_COMMANDS
from hsm_shipper.errors import StreamRefused
from hsm_tools.consumer import StreamReader
from tests.conftest import PrivateServer
from tests.support.both_readers import Readers, reader, readers
from tests.support.group_takes import handled, nothing_comes, pending
from tests.support.readings import MDT0, MDT1, add, numbers, said, take
from tests.support.servers import RedisServer, connections, free_port
from tests.support.waiting import eventually

__all__ = ["reader", "readers"]


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


@pytest.mark.parametrize("not_in_earlier_releases", ["", "+xinfo|stream"])
def test_the_permissions_that_are_asked_for_suffice(
    private_server: PrivateServer, readers: Readers, not_in_earlier_releases: str
) -> None:
    server = private_server()
    admin = server.client()
    add(admin, MDT0, [1])
    commands = [command for command in GROUP_COMMANDS.split() if command != not_in_earlier_releases]
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
    before = connections(client)
    with readers(redis_server.host, redis_server.port, redis_db) as reader:
        with reader.group("g", from_beginning=True) as group:
            events = group.events()
            group.ack(next(events))
        assert pending(client) == 2
    eventually(lambda: connections(client) == before)
    assert [*events] == []
