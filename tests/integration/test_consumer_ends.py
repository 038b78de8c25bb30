"""Readings that are ended from outside, and waits that are cancelled."""

from __future__ import annotations

import threading

import pytest
import redis
from redis.backoff import ConstantBackoff

from hsm_tools.consumer import StreamEvent, StreamReader
from hsm_tools.reader import outages
from tests.support.both_readers import Readers, reader, readers
from tests.support.readings import MDT0, add, numbers, said
from tests.support.servers import RedisServer, connections, free_port, waiting_clients
from tests.support.waiting import DEADLINE_S, eventually

__all__ = ["reader", "readers"]


def test_with_ends_the_readings_and_their_connections(
    client: redis.Redis, redis_server: RedisServer, redis_db: int, readers: Readers
) -> None:
    add(client, MDT0, range(5))
    before = connections(client)
    with readers(redis_server.host, redis_server.port, redis_db) as reader:
        events, others = reader.events(from_beginning=True), reader.batches(block_ms=1)
        next(events)
        next(others)
        assert connections(client) == before + 2
    eventually(lambda: connections(client) == before)
    assert [*events] == [] and [*others] == []
    with pytest.raises(ValueError, match="closed"):
        reader.events()


def test_with_a_group_end_its_readings_and_their_connections(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(5))
    others = reader.events(from_beginning=True)
    next(others)
    before = connections(client)
    group = reader.group("g", from_beginning=True)
    events = group.events()
    next(events)
    group.close()
    eventually(lambda: connections(client) == before)
    assert [*events] == [] and numbers([next(others)]) == [1]
    assert numbers([next(reader.group("g").events())]) == [0]


def test_another_thread_ends_a_reading_that_waits(
    client: redis.Redis,
    redis_server: RedisServer,
    redis_db: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing else ends the wait for the next try.
    monkeypatch.setattr(outages, "_DELAYS", ConstantBackoff(10 * DEADLINE_S))
    add(client, MDT0, [0])
    got: list[StreamEvent] = []
    for server_port in (redis_server.port, free_port()):
        reader = StreamReader(redis_server.host, server_port, redis_db)
        thread = threading.Thread(target=lambda reader=reader: got.extend(reader.events()))
        thread.start()
        eventually(lambda: waiting_clients(client) or said(caplog))
        reader.close()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert got == []


def test_a_cancelled_wait_loses_nothing(client: redis.Redis, redis_server: RedisServer, redis_db: int) -> None:
    import asyncio

    from hsm_tools.aio import AsyncStreamReader

    async def read() -> list[int]:
        got: list[int] = []
        async with AsyncStreamReader(redis_server.host, redis_server.port, redis_db) as reader:
            events = reader.events(from_beginning=True)
            for turn in range(80):
                if turn < 40:
                    add(client, MDT0, [turn])
                try:
                    async with asyncio.timeout(turn % 20 / 5000):
                        got.append((await anext(events)).data["rec_idx"])
                except TimeoutError:
                    pass
            while len(got) < 40:
                got.append((await anext(events)).data["rec_idx"])
        return got

    assert asyncio.run(read()) == [*range(40)]


def test_a_task_ends_a_reading_that_another_waits_in(
    client: redis.Redis, redis_server: RedisServer, redis_db: int, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    from hsm_tools.aio import AsyncStreamReader

    async def read() -> list[StreamEvent]:
        reader = AsyncStreamReader(redis_server.host, redis_server.port, redis_db)

        async def everything() -> list[StreamEvent]:
            return [event async for event in reader.events(from_beginning=True)]

        task = asyncio.create_task(everything())
        await asyncio.to_thread(eventually, lambda: waiting_clients(client))
        await reader.aclose()
        return await asyncio.wait_for(task, DEADLINE_S)

    add(client, MDT0, range(3))
    before = connections(client)
    assert numbers(asyncio.run(read())) == [0, 1, 2]
    assert said(caplog) == []
    eventually(lambda: connections(client) == before)
