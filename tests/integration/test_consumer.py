"""The reader on a server that behaves: what it reads, what it passes over, what it notices."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError
from hsm_tools.aio import AsyncStreamReader
from hsm_tools.consumer import StreamEvent, StreamReader
from tests.support.both_readers import Readers, reader, readers
from tests.support.readings import (
    MDT0,
    MDT1,
    add,
    event_data,
    history,
    idle_until,
    numbers,
    reads,
    said,
    stay_idle,
    take,
)
from tests.support.servers import RedisServer, connections, waiting_clients
from tests.support.waiting import DEADLINE_S, eventually

__all__ = ["reader", "readers"]

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_history_comes_whole_and_in_order_before_the_first_none(client: redis.Redis, reader: StreamReader) -> None:
    ids = add(client, MDT0, range(12_000))
    add(client, MDT1, range(7000))
    events = history(reader.events(from_beginning=True, block_ms=1))
    first = [event for event in events if event.stream == MDT0]
    assert numbers(first) == [*range(12_000)]
    assert [event.id for event in first] == ids
    assert numbers([event for event in events if event.stream == MDT1]) == [*range(7000)]
    assert events[0] == StreamEvent(MDT0, ids[0], event_data(0))


def test_without_history_only_what_comes_later(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(10))
    events = reader.events(block_ms=20)
    assert next(events) is None
    add(client, MDT0, range(10, 13))
    assert numbers(take(events, 3)) == [10, 11, 12]
    add(client, MDT0, range(13, 15))  # while the reader is not looking
    assert numbers(take(events, 2)) == [13, 14]


def test_a_stream_born_later_is_read_from_its_first_entry(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [0])
    events = reader.events(block_ms=50)
    assert next(events) is None
    add(client, MDT1, range(5))
    assert numbers(take(events, 5)) == [*range(5)]


def test_a_reader_may_come_before_the_first_stream(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    events = reader.events(block_ms=50)
    idle_until(events, lambda: said(caplog))
    add(client, MDT0, range(3))
    assert numbers(take(events, 3)) == [*range(3)]
    assert said(caplog) == ["no stream matches hsm:actions:* yet: waiting for one"]


def test_in_a_big_database_a_stream_is_found_within_the_discovery_interval(
    redis_server: RedisServer, redis_db: int, client: redis.Redis, readers: Readers
) -> None:
    client.mset({f"other:{n}": n for n in range(5000)})
    add(client, MDT0, [0])
    events = readers(redis_server.host, redis_server.port, redis_db, discovery_interval=1.5).events(block_ms=50)
    assert next(events) is None
    add(client, MDT1, range(3))
    assert numbers(take(events, 3)) == [*range(3)]


def test_only_streams_named_after_an_mdt_are_read(client: redis.Redis, reader: StreamReader) -> None:
    add(client, "hsm:actions:elm", [1])
    add(client, "hsm:actions:elm-MDT0000:old", [2])
    add(client, "hsm:actionsX:elm-MDT0000", [3])
    client.set("hsm:actions:elm-MDT0009", "not a stream")
    client.set("{hsm:actions:elm-MDT0000}:heartbeat", "{}")
    add(client, MDT0, [4])
    assert numbers(history(reader.events(from_beginning=True, block_ms=1))) == [4]
    assert reader.streams() == [MDT0]


def test_another_prefix(redis_server: RedisServer, redis_db: int, client: redis.Redis) -> None:
    add(client, "test.2:elm-MDT0000", [7])
    reader = StreamReader(redis_server.host, redis_server.port, redis_db, prefix="test.2")
    assert numbers(history(reader.events(True, 1))) == [7]


def test_block_ms_0_never_yields_none(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, [0])
    got: list[StreamEvent | None] = []

    def read() -> None:
        for event in reader.events(block_ms=0):
            got.append(event)
            if event is None or event.data["rec_idx"] == 2:
                return

    before = reads(client)
    thread = threading.Thread(target=read)
    thread.start()
    eventually(lambda: reads(client) >= before + 3)  # it has waited in vain at least twice
    add(client, MDT0, [1, 2])
    thread.join(DEADLINE_S)
    assert [event and event.data["rec_idx"] for event in got] == [1, 2]


def test_readings_are_independent_and_leave_no_connection(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(3))
    before = connections(client)
    old, new = reader.events(from_beginning=True, block_ms=50), reader.events(block_ms=50)
    assert next(new) is None
    assert numbers(history(old)) == [0, 1, 2]
    assert connections(client) == before + 2
    old.close()
    new.close()
    eventually(lambda: connections(client) == before)


@pytest.mark.parametrize(
    ("kwargs", "block_ms"), [({"decode_responses": True}, 50), ({"protocol": 3}, 50), ({"socket_timeout": 0.9}, 1500)]
)
def test_arguments_for_redis_do_not_break_it(
    redis_server: RedisServer,
    redis_db: int,
    client: redis.Redis,
    kwargs: dict[str, Any],
    block_ms: int,
    readers: Readers,
    caplog: Any,
) -> None:
    add(client, MDT0, range(3))
    client.xadd(MDT0, {b"data": b"\xff"})
    reader = readers(redis_server.host, redis_server.port, redis_db, **kwargs)
    events = reader.events(from_beginning=True, block_ms=block_ms)
    assert numbers(history(events)) == [0, 1, 2]
    add(client, MDT1, [3])
    assert numbers(take(events, 1)) == [3]
    assert reader.malformed == 1
    assert not [text for text in said(caplog) if "no answer" in text]


def test_a_configured_url(redis_server: RedisServer, redis_db: int, client: redis.Redis, readers: Readers) -> None:
    add(client, MDT0, [5])
    config = Config(redis_url=f"{redis_server.url}/{redis_db}?decode_responses=yes")
    assert numbers(history(readers.from_config(config).events(True, 1))) == [5]


def test_streams_by_their_name_in_earlier_releases(
    redis_server: RedisServer, redis_db: int, client: redis.Redis
) -> None:
    add(client, MDT0, [1])
    with StreamReader(redis_server.host, redis_server.port, redis_db) as reader:
        assert reader.discover_streams() == reader.streams() == [MDT0]

    async def discovered() -> list[str]:
        async with AsyncStreamReader(redis_server.host, redis_server.port, redis_db) as reader:
            return await reader.discover_streams()

    assert asyncio.run(discovered()) == [MDT0]


def test_what_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="prefix"):
        StreamReader(prefix="hsm:*")
    with pytest.raises(ValueError, match="discovery_interval"):
        StreamReader(discovery_interval=0)
    with pytest.raises(ValueError, match="connection_pool"):
        StreamReader(connection_pool=redis.ConnectionPool())
    with pytest.raises(TypeError, match="pasword"):
        StreamReader(pasword="typing mistake")
    with pytest.raises(ValueError, match="block_ms"):
        StreamReader().events(block_ms=-1)
    with pytest.raises(ConfigError, match="redis_url"):
        StreamReader.from_config(Config(redis_url="http://localhost"))


def test_malformed_entries_are_counted_and_said_once(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, [1])
    client.xadd(MDT0, {"other": "x"})
    for data in (b"no json", b"[1, 2]", b"", b'{"fid": "\xff"}', b'{"a":' * 100_000):
        client.xadd(MDT0, {"data": data})
    client.xadd(MDT0, {"note": "x", "data": '{"rec_idx": 2}', "more": "y"})
    assert numbers(history(reader.events(from_beginning=True, block_ms=1))) == [1, 2]
    assert reader.malformed == 6
    [line] = said(caplog)
    assert line.startswith(f"{MDT0} ") and "malformed and passed over (it has no field 'data'); 1 so far" in line


def test_a_deleted_stream_that_returns_is_read_from_its_first_entry(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(3))
    events = reader.events(from_beginning=True, block_ms=50)
    assert len(history(events)) == 3
    client.delete(MDT0)
    idle_until(events, lambda: said(caplog))
    assert said(caplog) == [f"{MDT0} is gone (deleted or flushed): it is read from its first entry if it returns"]
    add(client, MDT0, [3, 4], ids="{}-1")  # ids far below those that were read
    assert numbers(take(events, 2)) == [3, 4]
    stay_idle(client, events)
    assert len(said(caplog)) == 1


@pytest.mark.parametrize("ids", ["*", "{}-1"])
def test_a_flush_between_two_looks_loses_and_repeats_nothing(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture, ids: str
) -> None:
    add(client, MDT0, range(3))
    add(client, MDT1, range(3))
    events = reader.events(block_ms=50)
    assert next(events) is None
    pipe = client.pipeline()
    pipe.flushdb()
    for n in (3, 4):
        pipe.xadd(MDT0, {"data": f'{{"rec_idx": {n}}}'}, id=ids.format(n))
    pipe.execute()
    assert numbers(take(events, 2)) == [3, 4]
    idle_until(events, lambda: len(said(caplog)) == 2)
    [first, second] = sorted(said(caplog))
    assert first.startswith(f"{MDT0} went back in time (rolled back, or deleted and created again): ")
    assert second.startswith(f"{MDT1} is gone")


def test_entries_trimmed_before_they_were_read_are_said_exactly(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(5))
    events = reader.events(block_ms=50)
    assert next(events) is None
    add(client, MDT0, range(5, 15))  # while the reader is not looking
    client.xtrim(MDT0, maxlen=4, approximate=False)
    assert numbers(take(events, 4)) == [11, 12, 13, 14]
    idle_until(events, lambda: said(caplog))
    assert said(caplog) == [f"{MDT0}: 6 entries were removed before they could be read"]


def test_an_ordinary_trim_and_an_early_one_say_nothing(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(10))
    client.xtrim(MDT0, maxlen=6, approximate=False)
    events = reader.events(from_beginning=True, block_ms=50)
    assert len(history(events)) == 6
    client.xtrim(MDT0, maxlen=0, approximate=False)
    stay_idle(client, events)
    add(client, MDT0, [10])
    assert numbers(take(events, 1)) == [10]
    stay_idle(client, events)
    assert said(caplog) == []


def test_a_key_that_becomes_something_else_does_not_stop_the_others(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, [0])
    add(client, MDT1, [0])
    events = reader.events(block_ms=50)
    assert next(events) is None
    client.set(MDT0, "no stream")
    add(client, MDT1, [1])
    assert numbers(take(events, 1)) == [1]
    assert said(caplog) == [f"{MDT0} is no stream any more but a string: it is not read"]
    client.delete(MDT0)
    add(client, MDT0, [2])
    assert numbers(take(events, 1)) == [2]


# The spec's file, unchanged but for its `import sys`; only the name of its server leads to ours.
RUN_EXAMPLE = """
import runpy, socket, sys
real = socket.getaddrinfo
def ours(host, port, *args, **kwargs):
    assert (host, port) == ("redis.cluster.local", 6379)
    return real(sys.argv[2], int(sys.argv[3]), *args, **kwargs)
socket.getaddrinfo = ours
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_the_specs_example(redis_server: RedisServer) -> None:
    with redis_server.client(1) as client:  # the example's database
        client.flushdb()
        add(client, MDT0, [0])
        example = subprocess.Popen(
            [sys.executable, "-c", RUN_EXAMPLE, FIXTURES / "alert_on_failure.txt", "127.0.0.1", str(redis_server.port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            eventually(lambda: waiting_clients(client))
            client.xadd(MDT1, {"data": '{"status": "SUCCEED", "mdt": "elm-MDT0001", "fid": "0x1:0x1:0x0"}'})
            client.xadd(MDT1, {"data": '{"status": "FAILED", "mdt": "elm-MDT0001", "fid": "0x1:0x2:0x0"}'})
            assert example.stderr is not None
            assert example.stderr.readline() == "ALERT: Action failed on elm-MDT0001 for FID 0x1:0x2:0x0!\n"
            example.send_signal(signal.SIGINT)
            out, err = example.communicate(timeout=DEADLINE_S)
        finally:
            example.kill()
        client.flushdb()
    assert (out, err, example.returncode) == ("Monitoring for failed HSM actions...\nStopped.\n", "", 0)
