"""History: all that a stream holds, or the last of it, and then its end."""

from __future__ import annotations

import itertools
import threading

import pytest
import redis

from hsm_shipper.errors import StreamRefused, StreamUnavailable
from hsm_tools.consumer import StreamEvent, StreamReader
from tests.conftest import PrivateServer
from tests.support.both_readers import Readers, reader, readers
from tests.support.readings import MDT0, MDT1, add, event_data, numbers, resumed, said
from tests.support.servers import RedisServer, free_port

__all__ = ["reader", "readers"]


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


def test_history_of_a_stream_trimmed_meanwhile_ends_and_says_so(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, MDT0, range(12_000))
    events = reader.history()
    next(events)
    client.xtrim(MDT0, maxlen=0, approximate=False)
    add(client, MDT0, [12_000])
    assert len([*events]) == 4999
    assert said(caplog) == [f"{MDT0}: 7000 entries were removed before they could be read"]
    caplog.clear()
    assert numbers(resumed(reader, reader.position)) == [12_000]
    assert said(caplog) == []


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


def test_events_are_what_was_written(client: redis.Redis, reader: StreamReader) -> None:
    [entry_id] = add(client, MDT0, [3])
    assert [*reader.history()] == [StreamEvent(MDT0, entry_id, event_data(3))]
