"""Maintenance cycles on a real stream and a real state file: healing, trimming, refreshing."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import redis
from sqlite_utils import Database, Migrations

from hsm_shipper.cycle import CycleResult, run_cycle
from hsm_shipper.errors import StateError
from hsm_shipper.fold import LiveActions
from hsm_shipper.migrations import SET, STEPS
from hsm_shipper.reconcile import StateFile
from hsm_shipper.replay import Replay
from hsm_shipper.stream import ActionStream
from hsm_shipper.trim import length_bound
from tests.core import known_rows, rows
from tests.faults.world import KEY, MDT, World
from tests.servers import RedisServer
from tests.truth import entries_of


class Stopped(Exception):
    """What `keep_going` raises in these tests."""


@pytest.fixture
def world(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[World]:
    with redis_server.client(redis_db) as client:
        world = World(client, tmp_path)
        yield world
        world.close()


def line(rec_idx: int, status: str = "WAITING", cookie: int = 0) -> bytes:
    """The line of place 1/`rec_idx`."""
    return (
        f"lrh=[type=10680000 len=136 idx=1/{rec_idx}] fid=[0x200000401:0x{rec_idx:x}:0x0] "
        f"dfid=[0x200000401:0x{rec_idx:x}:0x0] compound/cookie=0x0/0x{cookie or rec_idx:x} action=ARCHIVE archive#=1 "
        f"flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 datalen=0 status={status} data=[]"
    ).encode()


def put(world: World, *rec_indices: int, status: str = "WAITING") -> None:
    """Have the list hold these records."""
    world.lines |= {(1, rec): line(rec, status) for rec in rec_indices}


def cycle(world: World, keep_going: Callable[[], None] = lambda: None, **settings: int) -> CycleResult:
    """One cycle, as maintenance runs it beside the worker."""
    limits = {"aggressive_trim_threshold": 5000, "consumer_group_backlog_max": 1_000_000} | settings
    stream = ActionStream(world.client, KEY, "the test's server")
    return run_cycle(MDT, world.server.state_path, stream, keep_going=keep_going, **limits)


def live_marks(world: World) -> dict[int, bytes]:
    """What the stream says is live, place and state."""
    return {place: action.mark for place, action in world.verdict().live.by_place.items()}


def a_past(world: World, finished: int) -> None:
    """One action that lives on, and many that came and went behind it."""
    put(world, 1)
    world.server.poll()
    put(world, *range(2, finished + 2))
    world.server.poll()
    for rec in range(2, finished + 2):
        del world.lines[1, rec]
    world.server.poll()
    world.server.poll()
    assert world.stream_is_true()


def test_twelve_thousand_finished_behind_one_live(world: World) -> None:
    a_past(world, 12_000)
    first_seen = next(iter(world.verdict().live)).first_seen
    assert world.client.xlen(KEY) == 24_001
    assert cycle(world).refreshed == 1
    world.server.poll()
    result = cycle(world)
    assert result.length == world.client.xlen(KEY) <= 1002
    told = world.verdict()
    assert [action.first_seen for action in told.live] == [first_seen], "age survives"
    assert world.stream_is_true()
    newest = json.loads(cast(bytes, entries_of(world.client, KEY)[-1][1]))
    assert (newest["event_type"], newest["refresh"]) == ("UPDATE", True)
    world.server.poll()
    assert world.client.xlen(KEY) == result.length, "a refresh is done once"


def test_what_is_within_its_bound_is_not_refreshed(world: World) -> None:
    a_past(world, 400)
    result = cycle(world)
    assert (result.refreshed, result.trimmed) == (0, 0)
    assert result.length == 801 <= length_bound(1)


def test_an_empty_list_empties_the_stream(world: World) -> None:
    put(world, *range(1, 60))
    world.server.poll()
    world.lines.clear()
    world.server.poll()
    world.server.poll()
    assert cycle(world).length == 0
    put(world, 99)
    assert world.server.poll().error is None
    assert world.stream_is_true()


def test_an_entry_appended_while_an_empty_stream_is_trimmed_stays(world: World) -> None:
    put(world, *range(1, 60))
    world.server.poll()
    world.lines.clear()
    world.server.poll()
    world.server.poll()

    def meanwhile() -> None:
        if not world.lines:
            put(world, 99)
            world.server.poll()

    calls = iter(range(10_000))
    cycle(world, lambda: meanwhile() if next(calls) > 2 else None)
    meanwhile()
    assert world.stream_is_true()
    assert world.verdict().complaints == []


def test_an_orphan_in_the_stream_is_purged(world: World) -> None:
    put(world, 1, 2, 3)
    world.server.poll()
    orphan = json.loads(cast(bytes, entries_of(world.client, KEY)[0][1])) | {"rec_idx": 77, "cookie": "0x77"}
    world.client.xadd(KEY, {"data": json.dumps(orphan)})
    world.server.kill()
    world.server.belief.open()
    world.server.belief.synchronise()
    with contextlib.closing(sqlite3.connect(world.server.state_path)) as connection, connection:
        connection.execute("DELETE FROM actions WHERE rec_idx = 77")  # as a fault of ours would have left it
    world.server.poll()
    assert not world.stream_is_true(), "no poll can notice"
    result = cycle(world)
    assert (result.orphans, result.missing, result.differing) == (1, 0, 0)
    world.server.poll()
    world.server.poll()
    assert world.stream_is_true()


def test_entries_deleted_by_hand_are_appended_again(world: World) -> None:
    put(world, 1, 2, 3)
    world.server.poll()
    put(world, 2, status="STARTED")
    world.server.poll()
    entries = entries_of(world.client, KEY)
    world.client.xdel(KEY, entries[0][0])
    put(world, 9)
    world.server.poll()
    world.client.xdel(KEY, entries[3][0])  # the UPDATE of 2, which is no longer the newest
    result = cycle(world)
    assert (result.orphans, result.missing, result.differing) == (0, 1, 1)
    world.server.poll()
    assert world.stream_is_true()
    assert cycle(world).missing == 0


def test_a_state_that_differs_in_what_only_the_line_tells(world: World) -> None:
    put(world, 1, 2)
    world.server.poll()
    world.lines[1, 2] = world.lines[1, 2].replace(b"flags=0x0", b"flags=0x1")
    world.server.poll()
    put(world, 9)
    world.server.poll()
    world.client.xdel(KEY, entries_of(world.client, KEY)[2][0])  # the UPDATE of 2
    result = cycle(world)
    assert (result.orphans, result.missing, result.differing) == (0, 0, 1)
    world.server.poll()
    assert world.stream_is_true()


def test_a_row_in_another_status_than_its_entry_is_healed(world: World) -> None:
    put(world, 1, 2)
    world.server.poll()
    with contextlib.closing(sqlite3.connect(world.server.state_path)) as connection, connection:
        connection.execute("UPDATE actions SET status = 'STARTED' WHERE rec_idx = 2")
    result = cycle(world)
    assert (result.orphans, result.missing, result.differing) == (0, 0, 1)
    assert known_rows(world.server.state_path) == rows(world.verdict().live)
    assert cycle(world).differing == 0


def test_an_orphan_enters_with_the_hash_of_its_line(world: World) -> None:
    put(world, 1, 2, 3)
    world.server.poll()
    with contextlib.closing(sqlite3.connect(world.server.state_path)) as connection, connection:
        connection.execute("DELETE FROM actions WHERE rec_idx = 2")
    assert cycle(world).orphans == 1
    assert known_rows(world.server.state_path) == rows(world.verdict().live)
    world.lines[1, 2] = world.lines[1, 2].replace(b"flags=0x0", b"flags=0x1")
    world.server.poll()
    assert world.stream_is_true()


def test_the_places_of_the_last_catalogues_are_compared_too(world: World) -> None:
    put(world, 1)
    far = (2**31, 1)
    world.lines[far] = line(7).replace(b"idx=1/7", b"idx=2147483648/1")
    world.server.poll()
    gone = entries_of(world.client, KEY)[-1][0]
    put(world, 9)
    world.server.poll()
    world.client.xdel(KEY, gone)
    assert cycle(world).missing == 1
    world.server.poll()
    assert world.stream_is_true()


def test_a_quiet_cycle_reads_the_stream_once_and_hashes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put(world, *range(1, 1500))
    world.server.poll()

    def hash_a_line(_: bytes) -> bytes:
        raise AssertionError("a line was hashed")

    monkeypatch.setattr("hsm_shipper.events.line_digest", hash_a_line)
    world.client.config_resetstat()
    assert cycle(world).entries == 1499
    assert world.client.info("commandstats")["cmdstat_xrange"]["calls"] == 2  # pages


def test_a_file_that_its_worker_has_not_migrated_yet(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    database = Database(path)
    earlier = Migrations(SET)
    for name, step in list(STEPS.items())[:2]:
        earlier(name=name)(step)
    earlier.apply(database)
    database.conn.close()
    with (
        pytest.raises(StateError, match="earlier release") as caught,
        contextlib.closing(StateFile(path)) as state,
        state.transaction(),
    ):
        state.differences(LiveActions())
    assert "restart hsm-action-shipper" in str(caught.value)


def by_hand(world: World) -> None:
    with contextlib.closing(sqlite3.connect(world.server.state_path)) as connection, connection:
        connection.execute("UPDATE actions SET entry_id = NULL")


def by_a_refresh_that_is_gone(world: World) -> None:
    with contextlib.closing(sqlite3.connect(world.server.state_path)) as connection, connection:
        connection.execute("INSERT INTO refresh VALUES (1, 2)")
    world.server.poll()
    refresh = entries_of(world.client, KEY)[-1][0]
    put(world, 9)
    world.server.poll()
    world.client.xdel(KEY, refresh)


@pytest.mark.parametrize("happens", [by_hand, by_a_refresh_that_is_gone])
def test_a_row_that_names_another_entry_of_the_same_state_learns_it(
    world: World, happens: Callable[[World], None]
) -> None:
    put(world, 1, 2, 3)
    world.server.poll()
    happens(world)
    assert known_rows(world.server.state_path) != rows(world.verdict().live)
    result = cycle(world)
    assert (result.orphans, result.missing, result.differing) == (0, 0, 0)
    assert known_rows(world.server.state_path) == rows(world.verdict().live)
    length = world.client.xlen(KEY)
    world.server.poll()
    assert world.client.xlen(KEY) == length
    with contextlib.closing(sqlite3.connect(world.server.state_path)) as watcher:
        version = watcher.execute("PRAGMA data_version").fetchone()
        cycle(world)
        assert watcher.execute("PRAGMA data_version").fetchone() == version, "the worker would load everything again"


def test_malformed_entries_are_counted_and_go_when_their_turn_comes(world: World) -> None:
    bad = cast(bytes, world.client.xadd(KEY, {"data": "{"}))
    put(world, 1)
    world.server.poll()
    result = cycle(world)
    assert (result.malformed, result.malformed_ids) == (1, [bad.decode()])
    assert result.trimmed == 1
    assert cycle(world).malformed == 0


@pytest.mark.parametrize("pending", [False, True])
def test_a_consumer_group_keeps_what_it_still_needs(world: World, pending: bool) -> None:
    a_past(world, 2000)
    world.client.xgroup_create(KEY, "slow", id="0")
    if pending:
        world.client.xreadgroup("slow", "one", {KEY: ">"}, count=4000)
    cycle(world)
    world.server.poll()
    assert cycle(world).length == 4002, "nothing went"
    result = cycle(world, consumer_group_backlog_max=1000)
    assert result.length <= length_bound(1), "too far behind: it is said, and it loses them"


def test_what_a_group_has_acknowledged_goes(world: World) -> None:
    a_past(world, 2000)
    world.client.xgroup_create(KEY, "quick", id="0")
    for entry in entries_of(world.client, KEY)[:3000]:
        world.client.xreadgroup("quick", "one", {KEY: ">"}, count=1)
        world.client.xack(KEY, "quick", entry[0])
    cycle(world)
    world.server.poll()
    assert cycle(world).length == 4002 - 3000


def test_a_group_that_is_too_far_behind_is_said_loudly(world: World, caplog: pytest.LogCaptureFixture) -> None:
    a_past(world, 200)
    world.client.xgroup_create(KEY, "lost", id="0")
    cycle(world, consumer_group_backlog_max=100)
    assert any(record.levelname == "ERROR" and "lost" in record.getMessage() for record in caplog.records)


def test_ended_at_any_step_the_next_cycle_ends_right(world: World) -> None:
    a_past(world, 3000)
    world.client.xdel(KEY, entries_of(world.client, KEY)[0][0])
    before = {(1, 1)}
    for step in range(40):
        calls = iter(range(10_000))

        def stop(step: int = step, calls: Iterator[int] = calls) -> None:
            if next(calls) == step:
                raise Stopped

        try:
            cycle(world, stop)
            break
        except Stopped:
            world.server.kill()
            world.server.poll()
    else:
        pytest.fail("a cycle has fewer steps than that")
    assert step > 5
    world.server.poll()
    cycle(world)
    assert set(world.verdict().digests()) == before
    assert world.stream_is_true()
    assert world.client.xlen(KEY) <= length_bound(1)


def test_a_worker_at_full_speed_beside_endless_cycles(world: World, redis_server: RedisServer) -> None:
    put(world, *range(1, 200))
    world.server.poll()
    ended = threading.Event()
    results: list[CycleResult] = []
    errors: list[Exception] = []
    own = redis_server.client(world.client.connection_pool.connection_kwargs["db"])
    stream = ActionStream(own, KEY, "the test's server")

    def maintain() -> None:
        while not ended.is_set():
            try:
                results.append(
                    run_cycle(
                        MDT, world.server.state_path, stream, aggressive_trim_threshold=100,
                        consumer_group_backlog_max=1000, keep_going=lambda: None,
                    )
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001  # it is the test that must fail, not the thread
                errors.append(error)

    thread = threading.Thread(target=maintain)
    thread.start()
    for turn in range(150):
        put(world, *range(200 + turn * 20, 220 + turn * 20), status="STARTED")
        for rec in range(180 + turn * 20, 200 + turn * 20):
            world.lines.pop((1, rec), None)
        result = world.server.poll()
        assert result.error is None or "changed by another process" in str(result.error)
    ended.set()
    thread.join()
    own.close()
    assert errors == []
    assert len(results) > 5
    assert sum(r.orphans + r.missing + r.differing for r in results) == 0, "what is appended meanwhile is no orphan"
    world.server.poll()
    world.server.poll()
    assert world.stream_is_true()


def test_a_replay_overtaken_by_a_trim_begins_again(world: World) -> None:
    a_past(world, 3000)
    stream = ActionStream(world.client, KEY, "the test's server")
    trimmed = iter([True])

    def trim_once() -> None:
        if next(trimmed, False):
            world.client.xtrim(KEY, minid=entries_of(world.client, KEY)[2500][0], approximate=False)

    replay = Replay(stream, LiveActions, lambda _: trim_once())
    replay.go_on(stream.head().last_id)
    assert replay.entries == 6001 - 2500


def test_a_stream_that_went_back_is_not_trimmed(world: World) -> None:
    a_past(world, 1500)

    def flush() -> None:
        world.client.flushdb()
        world.client.xadd(KEY, {"data": "{}"}, id="1-1")

    steps = iter(range(10_000))
    result = cycle(world, lambda: flush() if next(steps) == 4 else None)
    assert result.trimmed == 0
    assert world.client.xlen(KEY) == 1


def test_without_a_filled_state_file_nothing_is_done(world: World) -> None:
    with pytest.raises(StateError, match="cannot open state file"):
        cycle(world)
    world.server.belief.open()
    with pytest.raises(StateError, match="not filled yet"):
        cycle(world)


def test_the_worker_notices_what_maintenance_changed_though_it_has_nothing_to_append(world: World) -> None:
    a_past(world, 2000)
    assert cycle(world).refreshed == 1
    length = world.client.xlen(KEY)
    world.server.poll()
    assert world.client.xlen(KEY) == length + 1


def test_redis_gone_in_the_middle(world: World) -> None:
    a_past(world, 1500)

    def gone() -> None:
        raise redis.ConnectionError

    with pytest.raises(redis.ConnectionError):
        cycle(world, gone)
    assert cycle(world).live == 1
