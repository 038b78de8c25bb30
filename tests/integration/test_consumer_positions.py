"""Where a reading begins: positions that are saved and resumed, and the server that is named."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from hsm_shipper.errors import ConfigError, StreamRefused, StreamUnavailable
from hsm_tools.consumer import StreamEvent, StreamReader
from tests.conftest import PrivateServer
from tests.support.both_readers import Readers, reader, readers
from tests.support.readings import DURABLE, MDT0, MDT1, add, history, idle_until, numbers, resumed, said, take

__all__ = ["reader", "readers"]


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


def test_before_the_streams_were_looked_at_the_position_is_the_saved_one(readers: Readers) -> None:
    reader, saved = readers("127.0.0.1", 1), {MDT0: "1-1", MDT1: "2-2"}
    for begin in (reader.events, reader.batches, reader.history, partial(reader.history, last=2)):
        reading: Any = begin(start=saved)
        assert reader.position == saved
        if begin not in (reader.events, reader.batches):
            with pytest.raises(StreamUnavailable):
                next(reading)
            assert reader.position == saved


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


def look_again(reader: StreamReader) -> None:
    """Have the next read look at the streams first, as now and then it does by itself."""
    streams: Any = reader._streams
    streams._look_due_s = 0.0


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
        f"{MDT0}: since the position {ids[2]} entries up to {ids[6]}, the first one left, may have been removed unread"
    )
    caplog.clear()
    client.xtrim(MDT0, maxlen=0, approximate=False)
    assert resumed(reader, {MDT0: ids[7]}) == []
    assert said(caplog) == [
        f"{MDT0}: since the position {ids[7]} all that followed was removed before it could be read"
    ]
    assert reader.position == {MDT0: ids[9]}


@pytest.mark.parametrize("saved", [True, False])
def test_a_trim_that_overtakes_a_reader_that_has_not_caught_up_is_said_and_the_next_one_counted(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture, saved: bool
) -> None:
    ids = add(client, MDT0, range(13_000))
    batches = reader.batches(start={MDT0: ids[0]} if saved else ids[0], block_ms=50)
    assert numbers(next(batches))[-1] == 5000
    client.xtrim(MDT0, minid=ids[6000], approximate=False)
    look_again(reader)
    assert numbers(next(batches))[0] == 6000
    client.xtrim(MDT0, minid=ids[12_000], approximate=False)
    look_again(reader)
    assert numbers(next(batches)) == [*range(12_000, 13_000)]
    assert said(caplog) == [
        f"{MDT0}: since the position {ids[5000]} entries up to {ids[6000]}, "
        "the first one left, may have been removed unread",
        f"{MDT0}: 1000 entries were removed before they could be read",
    ]


@pytest.mark.parametrize("start", ["beginning", "saved", "id"])
def test_a_stream_made_anew_before_it_was_read_to_its_end_is_noticed(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture, start: str
) -> None:
    """It has more entries by now than were read of the old one, and all behind them."""
    ids = add(client, MDT0, range(12_000))
    begin: Any = {"beginning": None, "saved": {MDT0: ids[0]}, "id": ids[0]}[start]
    batches = reader.batches(from_beginning=begin is None, start=begin, block_ms=50)
    assert len(next(batches)) == 5000
    client.delete(MDT0)
    add(client, MDT0, range(20_000, 26_000))
    look_again(reader)
    assert numbers([*next(batches), *next(batches)]) == [*range(20_000, 26_000)]
    assert said(caplog) == [
        f"{MDT0} went back in time (rolled back, or deleted and created again): it is read again from its first entry"
    ]


def test_what_was_trimmed_before_one_id_is_none_of_its_business(
    client: redis.Redis, reader: StreamReader, caplog: pytest.LogCaptureFixture
) -> None:
    ids = add(client, MDT0, range(10))
    add(client, MDT1, range(10))
    client.xtrim(MDT0, minid=ids[6], approximate=False)
    client.xtrim(MDT1, maxlen=0, approximate=False)
    batches = reader.batches(start=ids[2], block_ms=50)
    assert numbers(next(batches)) == [6, 7, 8, 9]
    look_again(reader)
    assert next(batches) == []
    assert said(caplog) == []


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


def test_a_url_names_the_server(tmp_path: Path, private_server: PrivateServer, readers: Readers) -> None:
    socket = tmp_path / "s"
    server = private_server(unixsocket=str(socket), requirepass="s3cret")
    add(server.client(3, password="s3cret"), MDT0, [1])
    for url in (f"redis://:s3cret@127.0.0.1:{server.port}/3", f"unix://:s3cret@{socket}?db=3"):
        assert numbers([*readers(redis_url=url).history()]) == [1]
    reader = readers(redis_url=f"unix://{socket}?db=3")
    with pytest.raises(StreamRefused, match=rf"unix://{socket}\?db=3"):
        next(reader.history())
