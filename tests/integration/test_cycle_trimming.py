"""Maintenance cycles on a real stream and a real state file: what they trim and refresh, and what they leave."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from hsm_shipper.contract.stream_ids import next_id
from hsm_shipper.contract.trim_bound import length_bound
from tests.faults.world import KEY, World
from tests.support.cycles import a_past, cycle, put
from tests.support.truth import entries_of


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


def test_an_mdt_that_never_had_a_request_has_nothing_to_trim(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.server.poll()
    assert not world.client.exists(KEY)
    caplog.clear()
    assert (cycle(world).trimmed, caplog.text) == (0, "")


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


def test_a_stream_that_was_emptied_is_maintained_again_before_the_next_poll(world: World) -> None:
    put(world, 1)
    world.server.poll()
    world.lines.clear()
    world.server.poll()
    world.server.poll()
    for trimmed in (2, 0):
        result = cycle(world)
        assert (result.trimmed, result.length) == (trimmed, 0)
    put(world, 99)
    assert world.server.poll().error is None
    assert world.stream_is_true()


def test_of_a_stream_that_somebody_emptied_what_is_live_is_appended_again(world: World) -> None:
    put(world, 1, 2)
    world.server.poll()
    world.client.xtrim(KEY, maxlen=0, approximate=False)
    assert cycle(world).missing == 2
    result = world.server.poll()
    assert (result.error, result.events) == (None, {"NEW": 2})
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


def test_a_group_may_have_any_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    a_past(world, 200)
    world.client.xgroup_create(KEY, b"caf\xe9", id="0")
    cycle(world, consumer_group_backlog_max=100)
    assert "consumer group caf\\xe9 is " in caplog.text


def test_what_a_group_has_pending_and_is_gone_keeps_nothing(world: World) -> None:
    """A consumer died, and the group lost what it held; the others go on."""
    put(world, 1)
    world.server.poll()
    world.client.xgroup_create(KEY, "group", id="0")
    world.client.xreadgroup("group", "dead", {KEY: ">"})
    (lost,) = entries_of(world.client, KEY)
    a_past(world, 2000)
    cycle(world)
    world.server.poll()
    world.client.xtrim(KEY, minid=next_id(lost[0]), approximate=False)
    while given := cast(list[Any], world.client.xreadgroup("group", "other", {KEY: ">"})):
        world.client.xack(KEY, "group", *(entry_id for entry_id, _ in given[0][1]))
    assert world.client.xpending(KEY, "group")["min"] == lost[0].encode()
    assert cycle(world).length <= length_bound(1)


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


def test_the_worker_notices_what_maintenance_changed_though_it_has_nothing_to_append(world: World) -> None:
    a_past(world, 2000)
    assert cycle(world).refreshed == 1
    length = world.client.xlen(KEY)
    world.server.poll()
    assert world.client.xlen(KEY) == length + 1
