"""Positions that are saved and resumed, and history that ends."""

from __future__ import annotations

import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from hsm_shipper.errors import ConfigError, StreamRefused, StreamUnavailable
from hsm_tools.consumer import StreamEvent, StreamReader
from tests.conftest import PrivateServer
from tests.integration.both_readers import Readers, reader, readers
from tests.integration.readings import MDT0, MDT1, add, event_data, history, idle_until, numbers, said, take
from tests.servers import RedisServer, free_port
from tests.waiting import eventually

__all__ = ["reader", "readers"]

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def resumed(reader: StreamReader, position: Any) -> list[StreamEvent]:
    """What follows a position that went through a file, up to the first pause."""
    return history(reader.events(start=json.loads(json.dumps(position)), block_ms=1))


def keys(events: list[StreamEvent]) -> list[tuple[str, str]]:
    return [(event.stream, event.id) for event in events]


def test_wherever_it_stops_a_resumed_reading_gets_exactly_the_rest(client: redis.Redis, reader: StreamReader) -> None:
    for n in range(6):
        add(client, MDT0, [n])
        add(client, MDT1, [n])
    everything = {*keys([*reader.history()])}
    assert len(everything) == 12
    for count in range(1, 13):
        events = reader.events(from_beginning=True, block_ms=1)
        read = take(events, count)
        position = reader.position
        assert {*keys(read)} | {*keys(resumed(reader, position))} == everything
        assert not {*keys(read)} & {*keys(resumed(reader, position))}


def test_an_event_counts_as_read_once_it_was_handed_out_and_a_batch_as_a_whole(
    client: redis.Redis, reader: StreamReader
) -> None:
    ids = add(client, MDT0, range(7000))
    events = reader.events(from_beginning=True)
    assert reader.position == {}
    for n in range(3):
        next(events)
        assert reader.position == {MDT0: ids[n]}
    batches = reader.batches(from_beginning=True)
    batch = next(batches)
    assert len(batch) == 5000
    batch.clear()
    assert reader.position == {MDT0: ids[4999]}
    assert len(next(batches)) == 2000
    assert reader.position == {MDT0: ids[-1]}


def test_streams_without_a_new_event_are_in_the_position_too(client: redis.Redis, reader: StreamReader) -> None:
    [old] = add(client, MDT0, [0])
    events = reader.events(block_ms=20)
    assert next(events) is None
    assert reader.position == {MDT0: old}
    [born] = add(client, MDT1, [1])
    take(events, 1)
    assert reader.position == {MDT0: old, MDT1: born}
    client.delete(MDT1)
    idle_until(events, lambda: reader.position == {MDT0: old})


def test_malformed_entries_are_behind_the_position(client: redis.Redis, reader: StreamReader) -> None:
    client.xadd(MDT0, {"data": "x"})
    last: Any = client.xadd(MDT0, {"data": "y"})
    events = reader.events(from_beginning=True, block_ms=20)
    assert next(events) is None
    assert reader.position == {MDT0: last.decode()}
    assert reader.malformed == 2


def test_a_stream_that_the_position_does_not_name_is_read_from_its_first_entry(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    ids = add(client, MDT0, range(3))
    add(client, MDT1, range(4))
    events = reader.events(start={MDT0: ids[1]}, block_ms=1)
    assert sorted(numbers(history(events))) == [0, 1, 2, 2, 3]
    assert said(caplog) == []
    client.xtrim(MDT1, maxlen=1, approximate=False)
    assert numbers(resumed(reader, {MDT0: ids[2]})) == [3]
    assert said(caplog) == [f"{MDT1}: 3 entries were removed before they could be read"]


def test_one_id_holds_for_every_stream(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(10, 20), ids="{}-1")
    add(client, MDT1, range(15, 25), ids="{}-1")
    events = reader.events(start="17-1", block_ms=1)
    assert sorted(numbers(history(events))) == [18, 18, 19, 19, 20, 21, 22, 23, 24]
    assert sorted(numbers(resumed(reader, "16-18446744073709551615")))[:2] == [17, 17]
    late = reader.events(start="99999999999999-0", block_ms=1)  # a time to come: from now on, and nothing is said
    assert next(late) is None
    add(client, MDT0, [30], ids="{}-1")
    assert numbers(take(late, 1)) == [30]


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("17", "'17' is no entry id"),
        ("", "'' is no entry id"),
        ("$", "no entry id"),
        ("1-18446744073709551616", "64 bits"),
        ({MDT0: "1"}, "no entry id"),
        ({MDT0: 5}, "5 is no entry id"),
        ({MDT0: b"1-1"}, "no entry id"),
        ({"other:elm-MDT0000": "1-1"}, "'other:elm-MDT0000' is no stream of this reader"),
        ({"hsm:actions:elm": "1-1"}, "no stream"),
        ({b"hsm:actions:elm-MDT0000": "1-1"}, "no stream"),
        (["1-1"], "neither an id nor a mapping"),
        (17, "neither an id nor a mapping"),
    ],
)
def test_a_start_that_cannot_be_used_is_refused_at_once(readers: Readers, start: Any, reason: str) -> None:
    reader = readers("127.0.0.1", 1)
    for begin in (reader.events, reader.batches, reader.history):
        with pytest.raises(ValueError, match="start: ") as refused:
            begin(start=start)
        assert reason in str(refused.value)


def test_what_contradicts_itself_is_refused(readers: Readers) -> None:
    reader = readers("127.0.0.1", 1)
    with pytest.raises(ValueError, match="from_beginning and start"):
        reader.events(from_beginning=True, start="1-1")
    with pytest.raises(ValueError, match="last"):
        reader.history(last=-1)
    for more in ({"host": "localhost"}, {"port": 6379}, {"db": 0}):
        with pytest.raises(ConfigError, match="redis_url names the server already"):
            readers(redis_url="redis://localhost", **more)
    with pytest.raises(ConfigError, match=r"redis_url: http://localhost cannot be used"):
        readers(redis_url="http://me:s3cret@localhost")
    with pytest.raises(TypeError, match="pasword"):
        readers(redis_url="redis://localhost", pasword="typing mistake")


def test_a_trim_ahead_of_a_saved_position_is_said(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    ids = add(client, MDT0, range(10))
    client.xtrim(MDT0, minid=ids[6], approximate=False)
    assert numbers(resumed(reader, {MDT0: ids[2]})) == [6, 7, 8, 9]
    [line] = said(caplog)
    assert line == (
        f"{MDT0}: since the saved position {ids[2]} entries up to {ids[6]}, "
        "the first one left, may have been removed unread"
    )
    caplog.clear()
    client.xtrim(MDT0, maxlen=0, approximate=False)
    assert resumed(reader, {MDT0: ids[7]}) == []
    assert said(caplog) == [
        f"{MDT0}: since the saved position {ids[7]} all that followed was removed before it could be read"
    ]


def test_an_ordinary_trim_up_to_a_saved_position_says_nothing(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    ids = add(client, MDT0, range(10))
    client.xtrim(MDT0, minid=ids[5], approximate=False)
    assert numbers(resumed(reader, {MDT0: ids[5]})) == [6, 7, 8, 9]
    client.xtrim(MDT0, maxlen=0, approximate=False)
    assert resumed(reader, {MDT0: ids[9]}) == []
    assert said(caplog) == []


def test_a_reader_that_goes_on_knows_how_many_entries_were_removed(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    for last in (None, 3):
        caplog.clear()
        add(client, MDT0, range(10))
        assert len([*reader.history(last=last)]) in (3, 10, 14)
        add(client, MDT0, range(10, 20))
        client.xtrim(MDT0, maxlen=4, approximate=False)
        assert numbers(resumed(reader, reader.position)) == [16, 17, 18, 19]
        assert said(caplog) == [f"{MDT0}: 6 entries were removed before they could be read"]


def test_a_saved_position_ahead_of_its_stream_is_noticed(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(1, 4), ids="{}-1")
    assert numbers(resumed(reader, {MDT0: "9-9", MDT1: "5-5"})) == [1, 2, 3]
    [back, gone] = sorted(said(caplog))
    assert back.startswith(f"{MDT0} went back in time") and back.endswith("it is read again from its first entry")
    assert gone.startswith(f"{MDT1} is gone")


def test_a_position_survives_a_restart_of_both(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server(**DURABLE)
    add(server.client(), MDT0, range(3))
    with readers(server.host, server.port, 0) as reader:
        assert numbers(take(reader.events(from_beginning=True, block_ms=50), 2)) == [0, 1]
        saved = json.dumps(reader.position)
    server.kill()
    events = readers(server.host, server.port, 0).events(start=json.loads(saved), block_ms=50)
    server.start()
    add(server.client(), MDT0, [3])
    assert numbers(take(events, 2)) == [2, 3]


def test_history_ends_on_a_busy_stream_and_reading_goes_on_without_a_gap(
    redis_server: RedisServer, redis_db: int, client: redis.Redis, reader: StreamReader
) -> None:
    add(client, MDT0, range(3000))
    stop, written = threading.Event(), itertools.count(3000)

    def write() -> None:
        with redis_server.client(redis_db) as busy:
            while not stop.is_set():
                add(busy, MDT0, [next(written) for _ in range(50)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        read = numbers([*reader.history()])
    finally:
        stop.set()
        writer.join()
    assert read == [*range(len(read))] and len(read) >= 3000
    rest = numbers(resumed(reader, reader.position))
    assert read + rest == [*range(next(written))]


def test_history_is_what_was_there_when_it_was_first_asked(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(12_000))
    events = reader.history()
    first = next(events)
    add(client, MDT0, range(12_000, 12_100))
    add(client, MDT1, range(5))
    assert numbers([first, *events]) == [*range(12_000)]
    assert sorted(numbers(resumed(reader, reader.position))) == [0, 1, 2, 3, 4, *range(12_000, 12_100)]


def test_history_of_nothing_is_empty(client: redis.Redis, reader: StreamReader) -> None:
    assert [*reader.history()] == []
    assert reader.position == {}
    add(client, MDT0, [1])
    client.xtrim(MDT0, maxlen=0, approximate=False)
    client.set(MDT1, "no stream")
    assert [*reader.history()] == []
    assert [*reader.history(last=5)] == []
    add(client, MDT0, [2])
    assert numbers(resumed(reader, reader.position)) == [2]


def test_history_after_an_id(client: redis.Redis, reader: StreamReader) -> None:
    ids = add(client, MDT0, range(10))
    assert numbers([*reader.history(start=ids[6])]) == [7, 8, 9]
    assert numbers([*reader.history(start={MDT0: ids[8]})]) == [9]
    assert [*reader.history(start=ids[9])] == []


def test_history_of_a_stream_trimmed_meanwhile_ends(client: redis.Redis, reader: StreamReader) -> None:
    add(client, MDT0, range(12_000))
    events = reader.history()
    next(events)
    client.xtrim(MDT0, maxlen=0, approximate=False)
    add(client, MDT0, [12_000])
    assert len([*events]) == 4999
    assert numbers(resumed(reader, reader.position)) == [12_000]


@pytest.mark.parametrize("last", [0, 1, 2, 7, 2500, 4999, 5000, 6000])
def test_the_last_entries_over_all_streams_in_the_order_of_their_ids(
    client: redis.Redis, reader: StreamReader, last: int
) -> None:
    add(client, MDT0, range(1, 5000, 2), ids="{}-1")
    add(client, MDT1, [*range(2, 3000, 2), *range(5000, 6001)], ids="{}-1")
    expected = sorted([*range(1, 5000, 2), *range(2, 3000, 2), *range(5000, 6001)])
    assert numbers([*reader.history(last=last)]) == expected[len(expected) - min(last, len(expected)) :]
    assert reader.position == {MDT0: "4999-1", MDT1: "6000-1"}


def test_the_last_entries_of_a_saved_position_and_where_they_break_off(
    client: redis.Redis, reader: StreamReader
) -> None:
    add(client, MDT0, range(1, 20, 2), ids="{}-1")
    add(client, MDT1, range(2, 21, 2), ids="{}-1")
    assert numbers([*reader.history(start={MDT0: "15-1", MDT1: "20-1"}, last=5)]) == [17, 19]
    events = reader.history(last=4)
    assert numbers([next(events), next(events)]) == [17, 18]
    assert sorted(numbers(resumed(reader, reader.position))) == [19, 20]


def test_history_does_not_wait_for_a_server(
    private_server: PrivateServer, readers: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server()
    add(server.client(), MDT0, range(12_000))
    reader = readers(server.host, server.port, 0)
    events = reader.history()
    ids = [next(events).id for _ in range(3)]
    server.kill()
    with pytest.raises(StreamUnavailable, match="no answer from Redis at"):
        list(events)
    assert reader.position[MDT0] > ids[-1]
    for last in (None, 5):
        with pytest.raises(StreamUnavailable, match="check the address"):
            next(readers("127.0.0.1", free_port()).history(last=last))
    assert said(caplog) == []


def test_history_tells_a_refusal(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server(requirepass="s3cret")
    with pytest.raises(StreamRefused, match="password"):
        next(readers(server.host, server.port, 0).history())


def test_a_url_names_the_server(tmp_path: Path, private_server: PrivateServer, readers: Readers) -> None:
    socket = tmp_path / "s"
    server = private_server(unixsocket=str(socket), requirepass="s3cret")
    add(server.client(3, password="s3cret"), MDT0, [1])
    for url in (f"redis://:s3cret@127.0.0.1:{server.port}/3", f"unix://:s3cret@{socket}?db=3"):
        assert numbers([*readers(redis_url=url).history()]) == [1]
    reader = readers(redis_url=f"unix://{socket}?db=3")
    with pytest.raises(StreamRefused, match=rf"unix://{socket}\?db=3"):
        next(reader.history())


def test_with_ends_the_readings_and_their_connections(
    client: redis.Redis, redis_server: RedisServer, redis_db: int, readers: Readers
) -> None:
    add(client, MDT0, range(5))
    connections = len(client.client_list())
    with readers(redis_server.host, redis_server.port, redis_db) as reader:
        events, others = reader.events(from_beginning=True), reader.batches(block_ms=1)
        next(events)
        next(others)
        assert len(client.client_list()) == connections + 2
    eventually(lambda: len(client.client_list()) == connections)
    assert [*events] == [] and [*others] == []
    with pytest.raises(ValueError, match="closed"):
        reader.events()


def test_another_thread_ends_a_reading_that_waits(
    client: redis.Redis, redis_server: RedisServer, redis_db: int, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, [0])
    got: list[StreamEvent] = []
    for server_port in (redis_server.port, free_port()):
        reader = StreamReader(redis_server.host, server_port, redis_db)
        thread = threading.Thread(target=lambda reader=reader: got.extend(reader.events()))
        thread.start()
        eventually(lambda: client.info("clients")["blocked_clients"] or said(caplog))
        begun_s = time.monotonic()
        reader.close()
        thread.join(10)
        assert not thread.is_alive() and time.monotonic() - begun_s < 2.5
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
        await asyncio.to_thread(eventually, lambda: client.info("clients")["blocked_clients"])
        await reader.aclose()
        return await asyncio.wait_for(task, 5)

    add(client, MDT0, range(3))
    connections = len(client.client_list())
    assert numbers(asyncio.run(read())) == [0, 1, 2]
    assert said(caplog) == []
    eventually(lambda: len(client.client_list()) == connections)


def test_events_are_what_was_written(client: redis.Redis, reader: StreamReader) -> None:
    [entry_id] = add(client, MDT0, [3])
    assert [*reader.history()] == [StreamEvent(MDT0, entry_id, event_data(3))]
