"""Single entries and histories of actions, from a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import decode
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import StreamRefused, StreamUnavailable
from hsm_tools.dashboard.data import lookup
from hsm_tools.dashboard.data.lookup import Lookup
from tests.conftest import PrivateServer
from tests.support.core import earlier_event, line
from tests.support.dashboards import PREFIX, Streams, event
from tests.support.servers import RedisServer

A = "elm-MDT0000"
KEY = stream_key(PREFIX, A)


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    return Streams(redis_server, redis_db)


@pytest.fixture
def asked(streams: Streams) -> Iterator[Lookup]:
    asked = Lookup(streams.config)
    yield asked
    asked.close()


def live(client: redis.Redis, rec: int) -> ActionState:
    """The live action at a place, by the fold."""
    actions = ActionFold()
    entries: Any = client.xrange(KEY)
    for entry_id, fields in entries:
        actions.apply(entry_id, decode(fields[b"data"]))
    return next(action for action in actions if action.rec_idx == rec)


def kinds(history: lookup.History) -> list[tuple[str, str | None]]:
    return [(entry.event.event_type, entry.event.status) for entry in history.entries]


def test_a_history_goes_back_to_the_new(streams: Streams, asked: Lookup) -> None:
    streams.add(
        A, event(A, 1), event(A, 2), event(A, 1, "UPDATE", "STARTED"), event(A, 3), event(A, 1, "UPDATE", "FAILED")
    )
    history = asked.history(A, live(streams.client, 1))
    assert kinds(history) == [("NEW", "WAITING"), ("UPDATE", "STARTED"), ("UPDATE", "FAILED")]
    assert (history.is_whole, history.cut_short) == (True, False)


def test_a_new_of_the_same_moment_is_its_beginning(streams: Streams, asked: Lookup) -> None:
    """What an outage held back is appended at once: one millisecond, and ids that do not compare as text."""
    now_ms = 1000 * int(time.time())
    for number, told in ((9, event(A, 1)), (10, event(A, 1, "UPDATE", "STARTED"))):
        streams.client.xadd(KEY, {"data": msgspec.json.encode(told)}, id=f"{now_ms}-{number}")
    history = asked.history(A, live(streams.client, 1))
    assert kinds(history) == [("NEW", "WAITING"), ("UPDATE", "STARTED")]
    assert history.is_whole


def test_another_action_in_the_same_place_is_not_its_history(streams: Streams, asked: Lookup) -> None:
    streams.add(
        A, event(A, 1, cookie="0xaa"), event(A, 1, "PURGED", "SUCCEED", cookie="0xaa"), event(A, 1, cookie="0xbb")
    )
    assert kinds(asked.history(A, live(streams.client, 1))) == [("NEW", "WAITING")]


def test_what_was_trimmed_is_said_to_be_missing(streams: Streams, asked: Lookup) -> None:
    ids = streams.add(A, event(A, 1), event(A, 1, "UPDATE", "STARTED"))
    streams.client.xtrim(KEY, minid=ids[1], approximate=False)
    history = asked.history(A, live(streams.client, 1))
    assert kinds(history) == [("UPDATE", "STARTED")]
    assert (history.is_whole, history.cut_short) == (False, False)


def test_a_long_stream_is_searched_in_pages(streams: Streams, asked: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    streams.add(A, event(A, 1), *(event(A, rec) for rec in range(10, 3500)), event(A, 1, "UPDATE", "STARTED"))
    action = live(streams.client, 1)
    assert len(asked.history(A, action).entries) == 2
    monkeypatch.setattr(lookup, "_SEARCHED_MAX", 2000)
    history = asked.history(A, action)
    assert (len(history.entries), history.cut_short, history.searched) == (1, True, 2000)


def test_the_search_ends_where_the_action_was_not_there_yet(streams: Streams, asked: Lookup) -> None:
    pipe = streams.client.pipeline(transaction=False)
    for at in range(1, 3000):
        pipe.xadd(KEY, {"data": b"{}"}, id=f"{at}-1")
    pipe.execute()
    streams.add(A, event(A, 1, "UPDATE", "STARTED"))
    entries: Any = streams.client.xrevrange(KEY, count=1)
    actions = ActionFold()
    actions.apply(entries[0][0], decode(entries[0][1][b"data"]))
    history = asked.history(A, next(iter(actions)))
    assert (len(history.entries), history.is_whole, history.searched) == (1, False, 1000)


def test_a_history_goes_on(streams: Streams, asked: Lookup) -> None:
    streams.add(A, event(A, 1))
    action = live(streams.client, 1)
    history = asked.history(A, action)
    streams.add(A, *(event(A, rec) for rec in range(10, 2500)), event(A, 1, "PURGED", "CANCELED"), event(A, 3000))
    history = asked.since(A, action, history)
    assert kinds(history) == [("NEW", "WAITING"), ("PURGED", "PURGED")]
    assert kinds(asked.since(A, action, history)) == kinds(history)


def test_entries_of_earlier_shippers_count_by_their_keys(streams: Streams, asked: Lookup) -> None:
    streams.add(A, earlier_event(line(1)), earlier_event(line(1, "STARTED"), "UPDATE"))
    action = live(streams.client, 1)
    history = asked.history(A, action)
    streams.add(A, {"event_type": "PURGED", "action_key": action.action_key, "status": "PURGED"})
    assert [kind for kind, _ in kinds(asked.since(A, action, history))] == ["NEW", "UPDATE", "PURGED"]


def test_entries_tell_archive_and_host(streams: Streams, asked: Lookup) -> None:
    [one, two, bad] = streams.add(A, event(A, 1), event(A, 2, raw=None), b"no JSON")
    found = asked.entries([(A, one), (A, two), (A, bad), (A, "1-1")])
    assert {key: (entry.archive_id, entry.event.host) for key, entry in found.items()} == {
        (A, one): (7, "mds1"),
        (A, two): (None, "mds1"),
    }


def test_trouble_is_ours(private_server: PrivateServer) -> None:
    server = private_server()
    streams = Streams(server, 0)
    streams.add(A, event(A, 1))
    action = live(streams.client, 1)
    asked = Lookup(streams.config)
    streams.client.delete(KEY)
    streams.client.set(KEY, "no stream")
    with pytest.raises(StreamRefused):
        asked.history(A, action)
    server.kill()
    with pytest.raises(StreamUnavailable):
        asked.entries([(A, "1-1")])
    asked.close()
