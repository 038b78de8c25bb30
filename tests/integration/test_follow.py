"""Following streams: after every refresh, what is live is the fold of what the server has now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import pytest
import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.heartbeat import encode
from hsm_shipper.contract.redis_keys import heartbeat_key, stream_key
from hsm_shipper.errors import StreamRefused, StreamUnavailable
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_state.tally import EventKind
from tests.conftest import PrivateServer
from tests.support.core import KEY, MDT, OneMdt, add, digest, earlier_event, line, shipper_client
from tests.support.dashboards import heartbeat
from tests.support.servers import RedisServer
from tests.support.truth import judge_stream
from tests.support.waiting import eventually

BEAT = heartbeat(MDT)


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Iterator[LiveStreams]:
    followed = following(redis_server, redis_db)
    yield followed
    followed.close()


def following(server: RedisServer, db: int = 0) -> LiveStreams:
    """All streams of a database."""
    return LiveStreams.from_config(Config(redis_host=server.host, redis_port=server.port, redis_db=db))


def event(rec: int, status: str = "WAITING", kind: str = "NEW", since: int = 1000) -> dict[str, object]:
    """An event of ours, of an action first seen at 1000 whose status began at `since`."""
    times = {"timestamp": since, "first_seen": 1000, "status_since": since, "cookie": f"{0x6B020000 + rec:#x}"}
    return earlier_event(line(rec, status), kind) | times


def ended(rec: int, since: int = 1000) -> dict[str, object]:
    """The PURGED of `event(rec)`, which was SUCCEED at the last."""
    more = {"status": "PURGED", "last_status": "SUCCEED"}
    return {key: value for key, value in (event(rec, kind="PURGED", since=since) | more).items() if key != "raw"}


def statuses(live: ActionFold) -> dict[int, str]:
    """The statuses by record index."""
    return {action.rec_idx: action.status for action in live}


def check(streams: LiveStreams, client: redis.Redis) -> None:
    """What is live is what a fold from the first entry says."""
    streams.refresh()
    truth = judge_stream(client, KEY).live
    assert {action.place: action.status for action in streams[MDT].live} == {
        action.place: action.status for action in truth
    }


def test_nothing_is_there_before_there_is_a_stream(streams: LiveStreams, client: redis.Redis) -> None:
    streams.refresh()
    assert list(streams) == []
    add(client, event(1))
    streams.refresh()
    assert [stream.mdt for stream in streams] == [MDT]


def test_what_comes_is_folded_by_the_next_refresh(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, *(event(rec) for rec in range(1, 2501)))
    streams.refresh()
    stream = streams[MDT]
    assert (len(stream.live), stream.entries, stream.length) == (2500, 2500, 2500)
    ids = add(client, event(1, "STARTED", "UPDATE"), ended(2), event(2501))
    streams.refresh()
    assert (len(stream.live), stream.entries, stream.length, stream.folded_to) == (2500, 2503, 2503, ids[-1])
    assert statuses(stream.live)[1] == "STARTED"
    check(streams, client)


def test_every_mdt_is_by_itself(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, event(1))
    add(client, event(1, "STARTED"), key=stream_key("hsm:actions", "elm-MDT0001"))
    streams.refresh()
    assert {stream.mdt: statuses(stream.live) for stream in streams} == {
        MDT: {1: "WAITING"},
        "elm-MDT0001": {1: "STARTED"},
    }


def test_a_trim_behind_us_changes_nothing(streams: LiveStreams, client: redis.Redis) -> None:
    ids = add(client, event(1), ended(1), event(2), event(3))
    streams.refresh()
    client.xtrim(KEY, minid=ids[2], approximate=False)
    add(client, event(4))
    check(streams, client)
    assert (streams[MDT].entries, streams[MDT].length) == (5, 3)


def test_an_end_that_was_trimmed_before_it_was_read_is_noticed(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, event(1), event(2))
    streams.refresh()
    ids = add(client, ended(2), event(3))
    client.xadd(KEY, {"data": msgspec.json.encode(event(1) | {"event_type": "UPDATE", "refresh": True})})
    client.xtrim(KEY, minid=ids[-1], approximate=False)
    check(streams, client)
    assert sorted(statuses(streams[MDT].live)) == [1, 3]


def test_what_somebody_else_removed_is_live_no_more(
    streams: LiveStreams, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ids = add(client, *map(event, range(1, 9)))
    check(streams, client)
    for remove in (
        partial(client.xdel, KEY, ids[4]),
        partial(client.xdel, KEY, ids[2]),  # below the highest that was deleted
        partial(client.xtrim, KEY, maxlen=2, approximate=False),
        partial(client.xtrim, KEY, maxlen=0, approximate=False),
    ):
        remove()
        check(streams, client)
        assert caplog.messages == [f"stream {KEY} has lost entries to somebody else: it is folded from its first entry"]
        caplog.clear()
        add(client, event(9))
        check(streams, client)
        assert caplog.messages == []


def test_what_left_a_list_in_no_order_while_somebody_trimmed_is_live_no_more(
    streams: LiveStreams, client: redis.Redis, redis_server: RedisServer, redis_db: int, tmp_path: Path
) -> None:
    """Its second reading finds the worker begun anew: of what the stream no longer tells, it tells no end."""
    mdt = OneMdt(tmp_path / "mds1", shipper_client(redis_server, redis_db))
    listing = [line(rec) for rec in (5, 4, 3, 2, 1)]
    mdt.poll(*listing)
    check(streams, client)
    client.xtrim(KEY, maxlen=1, approximate=False)
    for _ in range(4):
        mdt.poll(*listing[1:])
    check(streams, client)
    assert sorted(statuses(streams[MDT].live)) == [1, 2, 3, 4]


def test_a_stream_that_maintenance_has_emptied_is_empty_and_goes_on(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, event(1))
    streams.refresh()
    add(client, ended(1))
    client.xtrim(KEY, maxlen=0, approximate=False)
    check(streams, client)
    assert len(streams[MDT].live) == 0
    add(client, event(2))
    check(streams, client)


def test_a_stream_that_is_gone_has_nothing_live(
    streams: LiveStreams, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, event(1))
    streams.refresh()
    stream = streams[MDT]
    client.delete(KEY)
    streams.refresh()
    assert (len(stream.live), stream.length) == (0, 0) or MDT not in {one.mdt for one in streams}
    add(client, event(2))
    check(streams, client)


def test_a_stream_made_anew_is_folded_anew(streams: LiveStreams, client: redis.Redis) -> None:
    newest = add(client, event(1), event(2))[-1]
    streams.refresh()
    client.delete(KEY)
    # By its own clock the server may give the same id again, within one millisecond.
    client.xadd(KEY, {"data": msgspec.json.encode(event(3))}, id=f"{int(newest.partition('-')[0]) + 1}-0")
    check(streams, client)
    assert statuses(streams[MDT].live) == {3: "WAITING"}


def test_a_server_that_rolled_back_is_followed(
    streams: LiveStreams, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    add(client, event(1))
    kept = cast(bytes, client.dump(KEY))
    add(client, ended(1), event(2))
    streams.refresh()
    client.restore(KEY, 0, kept, replace=True)
    check(streams, client)
    assert statuses(streams[MDT].live) == {1: "WAITING"}
    assert f"stream {KEY} went back in time: it is folded from its first entry" in caplog.messages


def test_events_are_counted_once_however_often_the_stream_is_folded(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, event(1), event(2), event(1, "STARTED", "UPDATE", since=1060), b"no event")
    streams.refresh()
    counted = dict(streams[MDT].tally.events)
    client.xdel(KEY, streams[MDT].folded_to)  # so that nobody can tell whether it is still the same stream
    add(client, event(3))
    streams.refresh()
    assert streams[MDT].entries == 4, "it was not folded anew"
    assert dict(streams[MDT].tally.events) == counted | {EventKind("NEW", "ARCHIVE", "WAITING"): 3}
    assert len(streams[MDT].tally.durations["ARCHIVE", "STARTED"]) == 1


def test_entries_that_are_no_events_are_counted(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, event(1), b"\xff", b"{}")
    streams.refresh()
    assert (streams[MDT].malformed, streams[MDT].entries, len(streams[MDT].live)) == (2, 3, 1)


def test_a_stream_that_returns_is_not_counted_again(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, event(1), b"no event")
    streams.refresh()
    kept = cast(bytes, client.dump(KEY))
    client.delete(KEY)
    streams.refresh()
    assert list(streams) == []
    client.restore(KEY, 0, kept)
    add(client, event(2), b"no event")
    streams.refresh()
    assert (streams[MDT].tally.events.total(), streams[MDT].tally.malformed, streams[MDT].entries) == (2, 2, 4)


def test_a_stream_of_an_earlier_shipper_is_placed_by_its_hashes(streams: LiveStreams, client: redis.Redis) -> None:
    late = earlier_event(line(1), "PURGED") | {"raw": None, "status": "PURGED", "hash": digest(line(1)).hex()}
    add(client, earlier_event(line(1)), earlier_event(line(1, cookie=9), "NEW", 1_759_401_200), late)
    streams.refresh()
    assert statuses(streams[MDT].live) == {1: "WAITING"}, "the late PURGED hit the successor"
    assert streams[MDT].tally.events[EventKind("NEW", "ARCHIVE", "WAITING")] == 2


def test_the_heartbeat_comes_and_goes(streams: LiveStreams, client: redis.Redis) -> None:
    add(client, event(1))
    client.set(heartbeat_key("hsm:actions", MDT), encode(BEAT))
    streams.refresh()
    assert streams[MDT].heartbeat == BEAT
    client.set(heartbeat_key("hsm:actions", MDT), b"no heartbeat")
    streams.refresh()
    assert streams[MDT].heartbeat is None
    assert streams[MDT].heartbeat_trouble == "heartbeat does not decode: b'no heartbeat'"
    client.delete(heartbeat_key("hsm:actions", MDT))
    streams.refresh()
    assert (streams[MDT].heartbeat, streams[MDT].heartbeat_trouble) == (None, None)


def test_a_key_that_is_no_stream_any_more_is_a_trouble_of_its_own(
    redis_server: RedisServer, redis_db: int, client: redis.Redis
) -> None:
    add(client, event(1))
    add(client, event(1), key=stream_key("hsm:actions", "elm-MDT0001"))
    streams = following(redis_server, redis_db)
    streams.refresh()
    streams._finder._is_cheap = False  # as in a database with many keys, where it is found to be gone only later
    client.delete(KEY)
    client.set(KEY, "something else")
    add(client, event(2), key=stream_key("hsm:actions", "elm-MDT0001"))
    streams.refresh()
    assert "WRONGTYPE" in (streams[MDT].trouble or "")
    assert len(streams["elm-MDT0001"].live) == 2 and streams["elm-MDT0001"].trouble is None
    streams.close()


def test_without_a_server_what_was_known_stays(private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes", appendfsync="always")
    streams = following(server)
    add(server.client(), event(1))
    streams.refresh()
    server.kill()
    with pytest.raises(StreamUnavailable) as caught:
        streams.refresh()
    assert f"{server.port}" in str(caught.value)
    assert len(streams[MDT].live) == 1
    server.start()
    add(server.client(), event(2))
    eventually(lambda: refreshed(streams) == 2)
    assert streams[MDT].entries == 2, "it was folded anew though nothing was lost"
    streams.close()


def refreshed(streams: LiveStreams) -> int:
    """How many actions are live after one try to refresh."""
    try:
        streams.refresh()
    except StreamUnavailable:
        return -1
    return len(streams[MDT].live)


def test_a_user_who_may_not_read_is_told_what_is_missing(private_server: PrivateServer) -> None:
    server = private_server()
    server.client().execute_command("ACL", "SETUSER", "nobody", "on", "nopass", "+auth", "+select", "+hello", "~*")  # type: ignore[no-untyped-call]
    streams = LiveStreams.from_config(Config(redis_url=f"redis://nobody:x@{server.host}:{server.port}/0"))
    with pytest.raises(StreamRefused) as caught:
        streams.refresh()
    assert "+xinfo" in str(caught.value)
    streams.close()
