"""Maintenance cycles that are ended or overtaken: the next one ends right."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.contract.trim_bound import length_bound
from hsm_shipper.errors import StateError
from hsm_shipper.maintenance.cycle import CycleResult, run_cycle
from hsm_shipper.maintenance.trim import trim
from hsm_shipper.stream.page_reader import PAGE_ENTRIES
from hsm_shipper.stream.replay import Replay
from hsm_shipper.stream.stream import ActionStream
from tests.faults.world import KEY, MDT, World
from tests.support.cycles import a_past, cycle, put
from tests.support.servers import RedisServer
from tests.support.truth import entries_of
from tests.support.waiting import eventually


class Stopped(Exception):
    """What `keep_going` raises in these tests."""


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
    eventually(lambda: errors or len(results) > 5)
    ended.set()
    thread.join()
    own.close()
    assert errors == []
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

    replay = Replay(stream, lambda _: trim_once())
    replay.go_on(stream.head().last_id)
    assert replay.entries == 6001 - 2500


def test_a_stream_that_went_back_is_not_trimmed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a_past(world, 1500)

    def flush_and_trim(*arguments: Any) -> int:
        world.client.flushdb()
        world.client.xadd(KEY, {"data": "{}"}, id="1-1")
        return trim(*arguments)

    monkeypatch.setattr("hsm_shipper.maintenance.cycle.trim", flush_and_trim)
    result = cycle(world)
    assert result.trimmed == 0
    assert world.client.xlen(KEY) == 1


@pytest.mark.parametrize("pages", [0, 1])
def test_who_has_lost_the_lock_trims_no_further(world: World, pages: int) -> None:
    a_past(world, 3000)
    stream = ActionStream(world.client, KEY, "the test's server")
    replay = Replay(stream, lambda _: None)
    replay.go_on(stream.head().last_id)
    looks = iter(range(pages))

    def keep_going() -> None:
        if next(looks, None) is None:
            raise Stopped

    with pytest.raises(Stopped):
        trim(stream, replay, pack_id(replay.until), keep_going)
    assert world.client.xlen(KEY) == 6001 - pages * PAGE_ENTRIES


def test_without_a_filled_state_file_nothing_is_done(world: World) -> None:
    with pytest.raises(StateError, match="cannot open state file"):
        cycle(world)
    world.server.replica.open()
    with pytest.raises(StateError, match="not filled yet"):
        cycle(world)


def test_redis_gone_in_the_middle(world: World) -> None:
    a_past(world, 1500)

    def gone() -> None:
        raise redis.ConnectionError

    with pytest.raises(redis.ConnectionError):
        cycle(world, gone)
    assert cycle(world).live == 1
