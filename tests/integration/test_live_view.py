"""The public view of what is live: true after every refresh, whatever became of the streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hsm_shipper.contract.acl_commands import LIVE_COMMANDS
from hsm_shipper.contract.heartbeat import encode
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.errors import ConfigError, StreamUnavailable
from hsm_tools.live_view import LiveView
from tests.conftest import PrivateServer
from tests.support.core import KEY, MDT, OneMdt, add, digest, line, shipper_client
from tests.support.dashboards import heartbeat
from tests.support.servers import RedisServer

BEAT = heartbeat(MDT)


@pytest.fixture
def mdt(tmp_path: Path, redis_server: RedisServer, redis_db: int) -> OneMdt:
    """Its polls write the stream."""
    return OneMdt(tmp_path / "mds1", shipper_client(redis_server, redis_db))


@pytest.fixture
def view(redis_server: RedisServer, redis_db: int) -> Iterator[LiveView]:
    with LiveView(redis_url=f"{redis_server.url}/{redis_db}") as view:
        yield view


def live(view: LiveView) -> dict[int, str]:
    """Statuses by record index, after another refresh."""
    view.refresh()
    return {action.rec_idx: action.status for action in view}


def test_it_is_what_the_list_holds(view: LiveView, mdt: OneMdt) -> None:
    assert (len(view), live(view)) == (0, {})
    mdt.poll(line(1), line(2))
    assert len(view) == 0, "nothing is asked for before a refresh"
    assert live(view) == {1: "WAITING", 2: "WAITING"}
    mdt.poll(line(1, "STARTED"))
    assert live(view) == {1: "STARTED"}
    assert view.counts() == {(MDT, "ARCHIVE", "STARTED"): 1}
    [action] = view
    assert (action.mdt, action.cat_idx, action.fid) == (MDT, 1, "0x200000401:0x1:0x0")
    assert mdt.client.xrange(KEY, action.entry_id, action.entry_id)


def test_an_end_that_an_earlier_shipper_told_is_an_end(view: LiveView, mdt: OneMdt) -> None:
    """It names the action by the hash of its line, which is asked for."""
    mdt.poll(line(1), line(2))
    purged = {"event_type": "PURGED", "mdt": MDT, "cat_idx": 1, "rec_idx": 1, "timestamp": 1, "status": "PURGED"}
    add(mdt.client, purged | {"action_key": "0x200000401:0x1:0x0:ARCHIVE", "hash": digest(line(1)).hex()})
    assert live(view) == {2: "WAITING"}


def flushed(client: redis.Redis) -> None:
    client.flushdb()


def trimmed(client: redis.Redis) -> None:
    client.xtrim(KEY, maxlen=0, approximate=False)


@pytest.mark.parametrize("lost", [flushed, trimmed])
def test_nothing_stays_live_that_went_unseen(view: LiveView, mdt: OneMdt, lost: Callable[[redis.Redis], None]) -> None:
    mdt.poll(line(1), line(2))
    assert live(view) == {1: "WAITING", 2: "WAITING"}
    lost(mdt.client)
    mdt.poll(line(2))
    assert live(view) == {2: "WAITING"}


def test_a_stream_that_is_gone_leaves_nothing(view: LiveView, mdt: OneMdt) -> None:
    mdt.poll(line(1))
    assert live(view) == {1: "WAITING"}
    mdt.client.delete(KEY)
    assert live(view) == {}


def test_what_a_worker_said_last_is_told_by_mdt(view: LiveView, mdt: OneMdt) -> None:
    mdt.poll(line(1))
    view.refresh()
    assert view.heartbeats == {MDT: None}
    mdt.client.set(heartbeat_key("hsm:actions", MDT), encode(BEAT))
    view.refresh()
    assert view.heartbeats == {MDT: BEAT}


def test_a_stream_that_cannot_be_read_is_a_trouble_and_keeps_what_it_had(view: LiveView, mdt: OneMdt) -> None:
    mdt.poll(line(1))
    mdt.client.mset({f"other:{number}": "" for number in range(5000)})  # too many to look for streams at every refresh
    assert (live(view), view.troubles) == ({1: "WAITING"}, {})
    mdt.client.set(KEY, "no stream")
    assert live(view) == {1: "WAITING"}
    assert MDT in view.troubles


def test_entries_that_are_no_events_are_counted(view: LiveView, mdt: OneMdt) -> None:
    mdt.poll(line(1))
    mdt.client.xadd(KEY, {"data": "{"})
    assert (live(view), view.malformed) == ({1: "WAITING"}, 1)


def test_without_a_server_it_raises_and_keeps_what_it_knew(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server(appendonly="yes", appendfsync="always")
    mdt = OneMdt(tmp_path / "mds1", shipper_client(server, 0))
    with LiveView(server.host, server.port, 0) as view:
        mdt.poll(line(1))
        assert live(view) == {1: "WAITING"}
        server.kill()
        with pytest.raises(StreamUnavailable, match=str(server.port)):
            view.refresh()
        assert len(view) == 1
        server.start()
        assert live(view) == {1: "WAITING"}


def test_a_heartbeat_that_cannot_be_read_is_a_trouble_of_its_own(view: LiveView, mdt: OneMdt) -> None:
    mdt.poll(line(1))
    mdt.client.set(heartbeat_key("hsm:actions", MDT), b"{}")
    view.refresh()
    assert (view.heartbeats, view.troubles) == ({MDT: None}, {})
    assert view.heartbeat_troubles == {MDT: "heartbeat does not decode: b'{}'"}
    mdt.client.delete(heartbeat_key("hsm:actions", MDT))
    view.refresh()
    assert (view.heartbeats, view.heartbeat_troubles) == ({MDT: None}, {})


def test_the_permissions_that_the_documents_name_are_enough(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server()
    mdt = OneMdt(tmp_path / "mds1", shipper_client(server, 0))
    mdt.poll(line(1))
    mdt.client.set(heartbeat_key("hsm:actions", MDT), encode(BEAT))
    keys = ("resetkeys", "%R~hsm:actions:*", "%R~{hsm:actions:*}:heartbeat")
    user = ("viewer", "on", ">word", *keys, "-@all", "+auth", "+hello", *LIVE_COMMANDS.split(), "+get")
    mdt.client.execute_command("ACL", "SETUSER", *user)  # type: ignore[no-untyped-call]
    with LiveView(redis_url=f"redis://viewer:word@{server.host}:{server.port}/0") as view:
        assert live(view) == {1: "WAITING"}
        assert view.heartbeats == {MDT: BEAT}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"redis_url": "redis://redis/1", "host": "redis"}, ConfigError),
        ({"prefix": "a b"}, ConfigError),
        ({"discovery_interval": 0}, ValueError),
        ({"no_such_argument": 1}, TypeError),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        LiveView(**arguments)
