"""Maintenance cycles on a real stream and a real state file: what they heal."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from sqlite_utils import Database, Migrations

from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.errors import StateError
from hsm_shipper.maintenance.reconcile import StateFileHealer
from hsm_shipper.migrations import SET, STEPS
from tests.faults.world import KEY, World
from tests.support.core import known_rows, rows
from tests.support.cycles import cycle, line, put
from tests.support.truth import entries_of


def test_an_orphan_in_the_stream_is_purged(world: World) -> None:
    put(world, 1, 2, 3)
    world.server.poll()
    orphan = json.loads(cast(bytes, entries_of(world.client, KEY)[0][1])) | {"rec_idx": 77, "cookie": "0x77"}
    world.client.xadd(KEY, {"data": json.dumps(orphan)})
    world.server.kill()
    world.server.replica.open()
    world.server.replica.catch_up()
    with contextlib.closing(sqlite3.connect(world.server.state_path)) as connection, connection:
        connection.execute("DELETE FROM actions WHERE rec_idx = 77")  # as a fault of ours would have left it
        connection.execute("UPDATE stream_position SET live_actions = NULL")
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
    put(world, 9)
    world.server.poll()
    entries = entries_of(world.client, KEY)
    world.client.xdel(KEY, entries[0][0], entries[3][0])  # the NEW of 1; the UPDATE of 2, which is not the newest
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

    monkeypatch.setattr("hsm_shipper.contract.event.line_digest", hash_a_line)
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
        contextlib.closing(StateFileHealer(path)) as state,
        state.transaction(),
    ):
        state.differences(ActionFold())
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
