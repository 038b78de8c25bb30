"""What a site loses at three in the morning, state files and Redis, with the installed command and a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import cast

import pytest
import redis

from hsm_shipper.state.poll_status import state_file
from tests.acceptance.conftest import MakeServer
from tests.simulator import SimulatedMdt, populate
from tests.support.servers import RedisServer
from tests.support.site import MDT, STREAM, is_true, run_once, verdict
from tests.support.waiting import eventually


@pytest.mark.parametrize("damage", ["deleted", "truncated", "garbage", "empty", "wal deleted"])
def test_a_lost_state_file_costs_no_event(make_server: MakeServer, damage: str) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 200)
    mdt.mount(server.mds)
    run_once(server)
    path = state_file(server.state_dir, MDT)
    content = path.read_bytes()
    if damage in ("deleted", "wal deleted"):
        path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 3])
    if damage == "garbage":
        path.write_bytes(b"\xa5" * len(content))
    if damage == "empty":
        path.write_bytes(b"")
    mdt.submit("RESTORE")
    mdt.write()
    run_once(server)
    told = verdict(server.redis, mdt)
    assert told.events == {"NEW": 201}
    assert told.complaints == []
    assert is_true(server.redis, mdt)


def test_a_state_file_deleted_under_a_running_worker(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 200)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    for path in server.state_dir.glob(f"{MDT}.sqlite3*"):
        path.unlink()
    record = mdt.submit("RESTORE")
    mdt.write()
    eventually(lambda: is_true(server.redis, mdt))
    mdt.remove(record)
    mdt.write()
    eventually(lambda: is_true(server.redis, mdt))
    told = verdict(server.redis, mdt)
    assert told.events == {"NEW": 201, "PURGED": 1}
    assert told.complaints == []


def test_redis_flushed_while_the_listing_does_not_change(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 60)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    server.redis.flushdb()
    eventually(lambda: is_true(server.redis, mdt))
    told = verdict(server.redis, mdt)
    assert told.events == {"NEW": 60}
    assert told.complaints == []


def test_newest_entry_deleted_or_malformed(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 60)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    newest = server.redis.xrevrange(STREAM, count=1)
    assert newest
    entry_id = newest[0][0]
    assert entry_id is not None
    server.redis.xdel(STREAM, entry_id)
    eventually(lambda: is_true(server.redis, mdt))
    server.redis.xadd(STREAM, {"data": "{"})
    server.wait_polled(mdt)
    mdt.submit("ARCHIVE")
    mdt.write()
    eventually(lambda: is_true(server.redis, mdt))
    told = verdict(server.redis, mdt)
    assert (told.events["NEW"], told.malformed) == (61, 1)
    assert told.complaints == []


def test_entries_within_trimmed_or_deleted_by_hand(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 60)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    server.redis.xtrim(STREAM, maxlen=20, approximate=False)
    eventually(lambda: is_true(server.redis, mdt))
    entry_id = cast(list[tuple[bytes, object]], server.redis.xrange(STREAM))[10][0]
    server.redis.xdel(STREAM, entry_id)
    eventually(lambda: is_true(server.redis, mdt))
    told = verdict(server.redis, mdt)
    assert told.complaints == []
    assert server.log.read_text().count("has lost entries that somebody else trimmed or deleted") == 2


def test_redis_down_at_start_and_states_that_came_and_went(
    make_server: MakeServer, private_server: Callable[..., RedisServer]
) -> None:
    broker = private_server(appendonly="yes")
    server, mdt = make_server(redis=broker), SimulatedMdt(MDT)
    populate(mdt, 30)
    mdt.mount(server.mds)
    broker.stop()
    server.start()
    server.wait_running(MDT)
    eventually(lambda: (s := server.status(mdt)) is not None and s.backlog == 30 and s.last_error)
    unseen = mdt.submit("RESTORE")
    mdt.write()
    eventually(lambda: (s := server.status(mdt)) is not None and s.backlog == 31)
    mdt.remove(unseen)
    mdt.write()
    eventually(lambda: (s := server.status(mdt)) is not None and s.backlog == 30)
    broker.start()
    status = server.wait_polled(mdt)
    assert (status.backlog, status.states_missed) == (0, 1)
    with broker.client() as client:
        assert is_true(client, mdt)
        assert verdict(client, mdt).complaints == []
    log = server.log.read_text()
    assert "cannot look at stream" in log
    assert "1 states of actions came and went" in log


def test_redis_down_and_states_that_came_and_went_meanwhile(
    make_server: MakeServer, private_server: Callable[..., RedisServer]
) -> None:
    broker = private_server(appendonly="yes")
    server, mdt = make_server(redis=broker), SimulatedMdt(MDT)
    populate(mdt, 30)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    broker.stop()
    unseen = mdt.submit("RESTORE")
    mdt.write()
    eventually(lambda: (s := server.status(mdt)) is not None and s.backlog == 1 and s.backlog_since)
    mdt.remove(unseen)
    mdt.write()
    eventually(lambda: (s := server.status(mdt)) is not None and s.backlog == 2)
    os.kill(server.programs()[f"mdt-{MDT}"].pid, signal.SIGKILL)
    broker.start()
    status = server.wait_polled(mdt)
    assert (status.backlog, status.states_missed) == (0, 0)
    with broker.client() as client:
        told = verdict(client, mdt)
        assert is_true(client, mdt)
    assert told.complaints == []
    assert (told.events["NEW"], told.events["PURGED"]) == (31, 1)
    assert "2 events that waited are appended" in server.log.read_text()


def test_redis_rolled_back(make_server: MakeServer, private_server: Callable[..., RedisServer]) -> None:
    """Killed without having saved, and back with an older snapshot: the stream is healed."""
    broker = private_server()
    server, mdt = make_server(redis=broker), SimulatedMdt(MDT)
    populate(mdt, 30)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    with broker.client() as client:
        client.save()
    ended = mdt.records()[0]
    for _ in range(10):
        mdt.submit("ARCHIVE")
    mdt.remove(ended)
    mdt.write()
    server.wait_polled(mdt)
    broker.kill()
    broker.start()
    with broker.client() as client:

        def healed() -> bool:
            try:
                return is_true(client, mdt)
            except redis.ConnectionError:
                return False

        eventually(healed)
        told = verdict(client, mdt)
    assert told.complaints == []
    assert told.events == {"NEW": 40, "PURGED": 1}
