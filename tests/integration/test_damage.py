"""Upkeep of a state file beside its worker: damage is found, a long log is cut, and the worker is not disturbed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StateCorrupt, StateError
from hsm_shipper.state import database, state_file
from hsm_shipper.state.damage import check_for_damage, set_aside
from hsm_shipper.state.database import tidy
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.line_index import LineIndex
from tests.support.core import line, live_action
from tests.support.states import refill

ACTIONS = 3000


@pytest.fixture
def worker(path: Path) -> Iterator[StateFile]:
    """The state file as its worker has it open, with some actions."""
    cache = StateFile(path)
    cache.load(LineIndex)
    refill(cache, live_actions(range(ACTIONS)), Head("1-1", None, None))
    cache.load(LineIndex)
    yield cache
    cache.close()


def live_actions(recs: Iterable[int]) -> ActionFold:
    """What is known of as many records."""
    live = ActionFold()
    for rec in recs:
        live.put(live_action(line(rec)))
    return live


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def test_upkeep_of_a_sound_file_does_not_disturb_its_worker(worker: StateFile, path: Path) -> None:
    check_for_damage(path)
    tidy(path)
    assert not worker.is_changed()
    assert log_of(path).stat().st_size > 0


def test_a_long_log_is_cut_by_its_worker_unless_somebody_needs_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (database, state_file):
        monkeypatch.setattr(module, "LOG_MAX_BYTES", 100_000)
    caplog.set_level("INFO")
    with closing(StateFile(path)) as worker:
        worker.load(LineIndex)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM actions").fetchone()
            refill(worker, live_actions(range(ACTIONS)), Head("2-1", None, None))
            tidy(path)
            assert "is in use and stays so" in caplog.text
            worker.set_missed([1])
            assert log_of(path).stat().st_size > 100_000
        caplog.clear()
        tidy(path)
        assert not caplog.messages
        worker.set_missed([2])
        assert log_of(path).stat().st_size <= 100_000
        assert not worker.is_changed() and len(worker.live_actions()) == ACTIONS


def test_damage_is_found_and_the_file_set_aside(worker: StateFile, path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(os.urandom(20 * 4096))
    with pytest.raises(StateCorrupt) as damage:
        check_for_damage(path)
    told = set_aside(path, damage.value)
    assert str(path) in str(told) and f"set aside as {path}.broken" in str(told) and "\n" not in str(told)
    assert not worker.is_current() and not path.exists() and not log_of(path).exists()
    assert path.with_name(f"{path.name}.broken").stat().st_size > 20 * 4096


def test_what_is_no_database(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StateCorrupt):
        check_for_damage(path)


def test_a_file_that_is_not_there_is_not_made(path: Path) -> None:
    for look in (check_for_damage, tidy):
        with pytest.raises(StateError):
            look(path)
    assert not path.exists()
