"""An old copy in the place of a state file whose log is still there: SQLite lays the one over the other."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hsm_shipper.errors import StateCorrupt
from hsm_shipper.state.damage import check_for_damage
from tests.faults.model.machine import copy_of_database
from tests.faults.world import World
from tests.support.core import known_rows, line, rows
from tests.support.cycles import cycle


def _sums(path: Path) -> tuple[int | None, int | None]:
    with closing(sqlite3.connect(path)) as connection:
        found: tuple[int | None, int | None] = connection.execute(
            "SELECT live_actions, live_actions_sum FROM stream_position"
        ).fetchone()
    return found


@pytest.fixture
def mixed(world: World, tmp_path: Path) -> World:
    """A world whose worker was killed, and whose state file is yesterday's under today's log."""
    for rec in range(1, 400):
        world.lines[1, rec] = line(rec)
    world.server.poll()
    path = world.server.state_path
    assert copy_of_database(path, tmp_path / "yesterday")
    for rec in range(1, 100):
        del world.lines[1, rec]
    for rec in range(400, 600):
        world.lines[1, rec] = line(rec)
    world.server.poll()
    world.server.poll()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint")  # as maintenance does
    world.lines[1, 600] = line(600)
    world.server.poll()  # of this alone the log tells, and of the position
    log = Path(f"{path}-wal").read_bytes()
    world.server.replica.close()
    shutil.copy(tmp_path / "yesterday", path)
    Path(f"{path}-wal").write_bytes(log)
    world.server.start()
    return world


def test_a_mixture_of_two_days_is_set_aside_and_no_event_is_repeated(mixed: World) -> None:
    entries = mixed.client.xlen("hsm:actions:elm-MDT0000")
    result = mixed.server.poll()
    assert result.error is None
    assert mixed.client.xlen("hsm:actions:elm-MDT0000") == entries
    assert mixed.stream_is_true() and mixed.verdict().complaints == []
    assert known_rows(mixed.server.state_path) == rows(mixed.verdict().live)
    assert mixed.server.state_path.with_name("mds1.sqlite3.broken").exists()


def test_maintenance_finds_a_mixture_as_well(mixed: World) -> None:
    with pytest.raises(StateCorrupt, match="another time"):
        check_for_damage(mixed.server.state_path)


def test_a_whole_copy_of_yesterday_is_as_good_as_a_state_file_that_is_behind(world: World, tmp_path: Path) -> None:
    world.lines[1, 1] = line(1)
    world.server.poll()
    assert copy_of_database(world.server.state_path, tmp_path / "yesterday")
    world.lines[1, 1] = line(1, "STARTED")
    world.server.poll()
    shutil.copy(tmp_path / "yesterday", tmp_path / "moved")
    (tmp_path / "moved").replace(world.server.state_path)
    assert world.server.poll().error is None
    assert world.stream_is_true() and world.verdict().complaints == []


def test_a_file_of_an_earlier_release_is_filled_by_the_first_change(world: World) -> None:
    world.lines[1, 1] = line(1)
    world.server.poll()
    path = world.server.state_path
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE stream_position SET live_actions = NULL, live_actions_sum = NULL")
    world.server.poll()
    world.lines[1, 2] = line(2)
    world.server.poll()
    assert _sums(path)[0] == 2
    world.server.kill()
    assert world.server.poll().error is None


def test_whoever_heals_renews_the_sum(world: World) -> None:
    for rec in (1, 2):
        world.lines[1, rec] = line(rec)
    world.server.poll()
    path = world.server.state_path
    right = _sums(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM actions WHERE rec_idx = 2")
    assert cycle(world).orphans == 1
    assert _sums(path) == right
    check_for_damage(path)
