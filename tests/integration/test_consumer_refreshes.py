"""Refreshes: UPDATEs that repeat an old state are no news, and given to those only who ask for them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from hsm_tools.consumer import StreamReader
from hsm_tools.live import LiveActions
from tests.faults.world import World
from tests.support.both_readers import Readers, reader, readers
from tests.support.cycles import a_past, cycle
from tests.support.group_takes import handled, nothing_comes, pending
from tests.support.readings import (
    MDT0,
    MDT1,
    add,
    event_data,
    history,
    idle_until,
    numbers,
    resumed,
    said,
    take,
)  # fmt: skip
from tests.support.servers import RedisServer
from tests.support.waiting import eventually

__all__ = ["reader", "readers"]

REFRESH: dict[str, Any] = {"event_type": "UPDATE", "refresh": True}


def refresh(client: redis.Redis, count: int, stream: str = MDT0, n: int = 99) -> str:
    """Append refreshes; returns the id of the last."""
    pipe = client.pipeline(transaction=False)
    for _ in range(count):
        pipe.xadd(stream, {"data": json.dumps(event_data(n, **REFRESH))})
    last_id: bytes = pipe.execute()[-1]
    return last_id.decode()


@pytest.fixture
def asking(redis_server: RedisServer, redis_db: int, readers: Readers) -> StreamReader:
    """A reader that asks for refreshes."""
    return readers(redis_server.host, redis_server.port, redis_db, refreshes=True)


def test_maintenance_is_no_news_to_a_consumer(
    world: World, redis_server: RedisServer, redis_db: int, readers: Readers
) -> None:
    a_past(world, 3001)
    reader = readers(redis_server.host, redis_server.port, redis_db)
    asking = readers(redis_server.host, redis_server.port, redis_db, refreshes=True)
    news, all_there_is = reader.events(block_ms=50), asking.events(block_ms=50)
    assert next(news) is None and next(all_there_is) is None
    assert cycle(world).refreshed == 1
    world.server.poll()
    [repeated] = take(all_there_is, 1)
    assert repeated.is_refresh and repeated.data["rec_idx"] == 1
    idle_until(news, lambda: reader.position == {repeated.stream: repeated.id}, 60)


def test_events_and_batches_pass_over_them(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [1])
    refresh(client, 12_000)
    add(client, MDT0, [2])
    last_id = refresh(client, 3)
    assert numbers(history(reader.events(from_beginning=True, block_ms=1))) == [1, 2]
    assert reader.position == {MDT0: last_id}
    sizes = []
    for batch in reader.batches(from_beginning=True, block_ms=1):
        sizes.append(len(batch))
        if not batch:
            break
    assert sizes == [1, 1, 0], "only silence is an empty batch"
    assert numbers([*reader.history()]) == [1, 2]
    assert resumed(reader, reader.position) == []


def test_they_break_no_silence(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [1])
    events = reader.events(block_ms=200)
    begun_s = time.monotonic()
    assert next(events) is None
    refresh(client, 1)
    assert next(events) is None
    assert time.monotonic() - begun_s >= 0.4, "a refresh is no reason to say None before its time"


def test_a_position_before_them_is_no_reason_to_lose_what_follows(client: redis.Redis, reader: StreamReader) -> None:
    [first_id] = add(client, MDT0, [1])
    refresh(client, 2)
    add(client, MDT0, [2, 3])
    refresh(client, 2)
    events = reader.events(from_beginning=True, block_ms=1)
    assert numbers(take(events, 1)) == [1]
    assert reader.position == {MDT0: first_id}
    assert numbers(resumed(reader, reader.position)) == [2, 3]
    assert resumed(reader, reader.position) == []


def test_the_last_events_are_counted_without_them(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(1, 6), ids="{}-1")
    add(client, MDT1, [6], ids="{}-1")
    client.xadd(MDT0, {"data": "no json"})
    last_id = refresh(client, 2500)
    assert numbers([*reader.history(last=3)]) == [4, 5, 6]
    assert reader.position[MDT0] == last_id
    assert reader.malformed == 1


def test_the_last_events_of_a_kind(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(3000))
    assert numbers([*reader.history(last=2, where=lambda event: event.data["rec_idx"] < 7)]) == [5, 6]
    assert numbers([*reader.history(where=lambda event: event.data["rec_idx"] % 1000 == 0)]) == [0, 1000, 2000]
    assert resumed(reader, reader.position) == []


def test_who_asks_is_given_them(client: redis.Redis, asking: StreamReader) -> None:
    add(client, MDT0, [1])
    refresh(client, 2)
    assert [event.is_refresh for event in asking.history()] == [False, True, True]
    assert [event.is_refresh for event in asking.history(last=2)] == [True, True]
    assert [event.is_refresh for event in history(asking.events(True, block_ms=1))] == [False, True, True]
    with asking.group("g", from_beginning=True) as group:
        assert [event.is_refresh for event in handled(group, 3)] == [False, True, True]


def test_what_says_refresh_and_is_none_is_given(client: redis.Redis, reader: StreamReader) -> None:
    for changes in ({"refresh": True}, {"event_type": "UPDATE", "refresh": "yes"}, {"event_type": "UPDATE"}):
        client.xadd(MDT0, {"data": json.dumps(event_data(1, **changes))})
    assert len([*reader.history()]) == 3


def test_a_group_acknowledges_them_itself(client: redis.Redis, reader: StreamReader) -> None:
    refresh(client, 10)
    add(client, MDT0, [1])
    refresh(client, 10)
    group = reader.group("g", from_beginning=True, batch_size=3)
    assert numbers(handled(group, 1)) == [1]
    eventually(lambda: nothing_comes(group) and pending(client) == 0)
    assert group.reclaimed == 0


@pytest.mark.parametrize("of", ["me", "another"])
def test_a_group_acknowledges_those_that_are_pending(
    client: redis.Redis, reader: StreamReader, of: str, caplog: pytest.LogCaptureFixture
) -> None:
    refresh(client, 10)
    add(client, MDT0, [1])
    client.xgroup_create(MDT0, "g", "0")
    client.xreadgroup("g", of, {MDT0: ">"})  # by a consumer that knew of none, and left them
    assert pending(client) == 11
    group = reader.group("g", "me", batch_size=3, reclaim_after_s=0.2)
    assert numbers(handled(group, 1)) == [1]
    eventually(lambda: nothing_comes(group) and pending(client) == 0, 60)
    if of == "me":
        assert said(caplog) == []


def test_a_group_that_ends_at_once_leaves_none_pending(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [1])
    refresh(client, 5)
    with reader.group("g", from_beginning=True) as group:
        assert numbers(handled(group, 1)) == [1]
    assert pending(client) == 0


def test_what_is_live_is_told_by_them_too(client: redis.Redis, asking: StreamReader) -> None:
    refresh(client, 1, n=5)  # its NEW was trimmed away
    live = LiveActions()
    for event in asking.history():
        live.apply(event)
    assert [action.rec_idx for action in live] == [5]
