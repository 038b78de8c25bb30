"""The reader while its server is killed, restarted, rolled back, paused, or refuses: nothing is lost or made up."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff

from hsm_shipper.errors import StreamRefused, StreamUnavailable
from hsm_tools.consumer import StreamReader
from hsm_tools.reader import outages
from hsm_tools.reader.positions import StreamInfo
from hsm_tools.reader.steps import Steps
from hsm_tools.reader.streams import StreamSet
from tests.conftest import PrivateServer
from tests.support.both_readers import Readers, readers
from tests.support.readings import DURABLE, MDT0, MDT1, add, history, idle_until, numbers, reads, said, take
from tests.support.servers import RedisServer, free_port
from tests.support.waiting import DEADLINE_S, eventually

__all__ = ["readers"]

ReaderOf = Callable[[RedisServer], StreamReader]

ASKED_FOR = ["+select", "+scan", "+type", "+xinfo", "+xread", "+xrange", "+xrevrange"]


@pytest.fixture
def reader_of(readers: Readers) -> ReaderOf:
    """Makes a reader of a server."""
    return lambda server: readers(server.host, server.port, 0)


def test_a_killed_server_that_returns_costs_nothing(
    private_server: PrivateServer, reader_of: ReaderOf, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server(**DURABLE)
    add(server.client(), MDT0, range(5))
    events = reader_of(server).events(from_beginning=True, block_ms=50)
    assert numbers(take(events, 5)) == [*range(5)]
    for n in (10, 20, 30):
        add(server.client(), MDT0, [n])
        server.kill()
        idle_until(events, lambda: said(caplog))
        server.start()
        add(server.client(), MDT0, [n + 1, n + 2])
        assert numbers(take(events, 3)) == [n, n + 1, n + 2]
        [lost, back] = said(caplog)
        address = f"Redis at redis://127.0.0.1:{server.port}/0"
        assert lost.startswith(f"no answer from {address} (")
        assert back.startswith(f"{address} is back after ") and " tr" in back
        caplog.clear()


def test_none_comes_on_time_while_the_server_is_down(
    private_server: PrivateServer, reader_of: ReaderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A None that waited for the next try would never come.
    monkeypatch.setattr(outages, "_DELAYS", ConstantBackoff(10 * DEADLINE_S))
    server = private_server()
    server.stop()
    events = reader_of(server).events(block_ms=100)
    for _ in range(5):
        asked_s = time.monotonic()
        assert next(events) is None
        assert time.monotonic() - asked_s > 0.09


def test_a_server_that_comes_late_is_waited_for(
    private_server: PrivateServer, reader_of: ReaderOf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = private_server()
    server.stop()
    events = reader_of(server).events(block_ms=50)
    idle_until(events, lambda: said(caplog))
    server.start()
    idle_until(events, lambda: len(said(caplog)) == 3)
    add(server.client(), MDT0, [1])
    assert numbers(take(events, 1)) == [1]
    [lost, none_yet, back] = said(caplog)
    assert "Error 111" in lost and "waiting" in none_yet and " tr" in back


def test_none_comes_nearly_on_time_while_the_server_hangs(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server()
    add(server.client(), MDT0, [0])
    patient = readers(server.host, server.port, 0, socket_timeout=10 * DEADLINE_S)
    events = patient.events(block_ms=100)
    assert next(events) is None
    server.pause()
    for _ in range(2):
        assert next(events) is None  # one that waited as long as the client may would never come
    server.resume()
    add(server.client(), MDT0, [1])
    assert numbers(take(events, 1)) == [1]


def test_no_none_in_the_middle_of_history(
    private_server: PrivateServer,
    reader_of: ReaderOf,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries, delay_s = [], outages.retry_delay_s

    def noted(failures: int) -> float:
        tries.append(failures)
        return delay_s(failures)

    monkeypatch.setattr(outages, "retry_delay_s", noted)
    server = private_server(**DURABLE)
    add(server.client(), MDT0, range(20_000))
    events = reader_of(server).events(from_beginning=True, block_ms=1)
    read = [event for event in [next(events)] if event is not None]
    reading = threading.Thread(target=lambda: read.extend(history(events)))
    caplog.clear()  # a busy machine may have kept the first answer waiting
    server.kill()
    reading.start()
    eventually(lambda: len(tries) > 3)  # many block_ms
    server.start()
    reading.join()
    assert numbers(read) == [*range(20_000)]
    assert len(said(caplog)) == 2


def test_a_first_look_that_breaks_off_is_begun_again(
    redis_server: RedisServer, redis_db: int, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis_server.client(redis_db)
    client.mset({f"other:{n}": n for n in range(5000)})  # too many to scan again without need
    add(client, MDT0, [0])
    inspect, failures = StreamSet._inspect, [redis.ConnectionError("lost"), redis.TimeoutError("late")]

    def breaks_off(self: StreamSet, keys: set[bytes]) -> Steps[dict[bytes, StreamInfo | str]]:
        if failures:
            raise failures.pop()
        return (yield from inspect(self, keys))

    monkeypatch.setattr(StreamSet, "_inspect", breaks_off)
    events = readers(redis_server.host, redis_server.port, redis_db).events(block_ms=50)
    before = reads(client)
    idle_until(events, lambda: reads(client) > before)
    assert not failures
    add(client, MDT0, [1])
    assert numbers(take(events, 1)) == [1]


def test_a_rollback_is_said_and_what_follows_is_read_once(
    private_server: PrivateServer, reader_of: ReaderOf, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server()
    client = server.client()
    events = reader_of(server).events(from_beginning=True, block_ms=50)
    ids = []
    for n in range(6):
        ids += add(client, MDT0, [n])
        take(events, 1)
        if n == 3:
            client.save()  # what the server will remember
    kept = ids[3]
    server.kill()
    server.start()
    idle_until(events, lambda: any("went back" in text for text in said(caplog)))
    add(server.client(), MDT0, [6, 7])
    assert numbers(take(events, 2)) == [6, 7]
    went_back = f"{MDT0} went back in time (rolled back, or deleted and created again)"
    assert f"{went_back}: entries after {kept} are read again" in said(caplog)


def test_a_rollback_that_was_healed_before_the_reader_is_back_loses_nothing(
    private_server: PrivateServer, reader_of: ReaderOf
) -> None:
    server = private_server()
    client = server.client()
    add(client, MDT0, range(4))
    client.save()
    events = reader_of(server).events(block_ms=50)
    assert next(events) is None
    add(client, MDT0, [4, 5])
    assert numbers(take(events, 2)) == [4, 5]
    server.kill()
    server.start()
    ids = add(server.client(), MDT0, [6, 7, 8])
    assert [event.id for event in take(events, 3)] == ids


def test_everything_is_read_again_where_nothing_that_was_read_is_left(
    private_server: PrivateServer, reader_of: ReaderOf, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server()
    client = server.client()
    add(client, MDT0, range(3), ids="{}-1")
    client.save()
    events = reader_of(server).events(block_ms=50)
    add(client, MDT0, [1000], ids="{}-1")
    assert next(events) is None
    server.kill()
    server.start()
    add(server.client(), MDT0, [500], ids="{}-1")  # a clock that went back: indistinguishable from an old entry
    assert numbers(take(events, 4)) == [0, 1, 2, 500]
    assert any(text.endswith("it is read again from its first entry") for text in said(caplog))


def test_a_flushed_server(private_server: PrivateServer, reader_of: ReaderOf, caplog: pytest.LogCaptureFixture) -> None:
    server = private_server()
    client = server.client()
    add(client, MDT0, range(3))
    add(client, MDT1, range(3))
    events = reader_of(server).events(block_ms=50)
    assert next(events) is None
    client.flushall()
    idle_until(events, lambda: len(said(caplog)) == 2)
    assert [text.partition(" is gone")[0] for text in said(caplog)] == [MDT0, MDT1]
    add(client, MDT1, [3])
    add(client, MDT0, [4])
    assert sorted(numbers(take(events, 2))) == [3, 4]


def test_a_password_that_is_missing_or_wrong(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server(requirepass="s3cret")
    attempts: list[dict[str, Any]] = [{}, {"password": "wr0ng"}, {"username": "nobody", "password": "wr0ng"}]
    for kwargs in attempts:
        reader = readers(server.host, server.port, 0, **kwargs)
        with pytest.raises(StreamRefused, match="give the right user name and password") as refused:
            next(reader.events(block_ms=100))
        text = str(refused.value)
        assert f"redis://127.0.0.1:{server.port}/0" in text and "hsm:actions:*" in text
        assert "\n" not in text and "wr0ng" not in text
    add(server.client(password="s3cret"), MDT0, [1])
    assert numbers(history(readers(server.host, server.port, 0, password="s3cret").events(True, 1))) == [1]


def test_a_password_that_is_changed_meanwhile(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server(requirepass="s3cret")
    admin = server.client(password="s3cret")
    events = readers(server.host, server.port, 0, password="s3cret").events(block_ms=50)
    assert next(events) is None
    admin.config_set("requirepass", "another")
    admin.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StreamRefused, match="password"):
        for _ in events:
            pass


def test_the_permissions_that_are_asked_for_suffice(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server()
    admin = server.client()
    add(admin, MDT0, [1])
    admin.acl_setuser("viewer", enabled=True, passwords="+pw", keys=["hsm:actions:*"], commands=ASKED_FOR)
    reader = readers(server.host, server.port, 0, username="viewer", password="pw")
    events = reader.events(from_beginning=True, block_ms=50)
    assert numbers(history(events)) == [1]
    admin.delete(MDT0)
    add(admin, MDT0, [2], ids="5-{}")
    assert numbers(take(events, 1)) == [2]
    admin.acl_setuser("viewer", commands=["-xread"])
    with pytest.raises(StreamRefused, match=r"\+xread"):
        for _ in events:
            pass


def test_a_database_that_does_not_exist(private_server: PrivateServer, readers: Readers) -> None:
    server = private_server(databases="2")
    with pytest.raises(StreamRefused, match="right server, port and database"):
        next(readers(server.host, server.port, 7).events())


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of something that is no Redis server."""
    listener = socket.create_server(("127.0.0.1", free_port()))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                while connection.recv(1000):
                    pass

    thread = threading.Thread(target=answer)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_another_kind_of_server(web_server: int, readers: Readers) -> None:
    with pytest.raises(StreamRefused, match="right server"):
        next(readers("127.0.0.1", web_server).events(block_ms=100))


def test_the_list_of_streams_takes_one_try(readers: Readers) -> None:
    with pytest.raises(StreamUnavailable, match=r"no answer from Redis at redis://127\.0\.0\.1:\d+/1: Error 111"):
        readers("127.0.0.1", free_port()).streams()
