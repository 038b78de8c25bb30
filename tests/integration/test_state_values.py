"""A state file with values that no worker wrote: set aside and made anew, and no event is false or comes twice."""

from __future__ import annotations

import logging
import random
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StateCorrupt, StateError
from hsm_shipper.maintenance.reconcile import StateFileHealer
from hsm_shipper.migrations import STEPS
from hsm_shipper.state.damage import check_for_damage, set_aside
from hsm_shipper.state.maintenance_log import RecordedRun, last_runs, record, runs_file
from hsm_shipper.state.poll_status import read_poll_status
from hsm_shipper.state.state_file import StateFile, open_state_file
from hsm_shipper.worker.line_index import LineIndex
from tests.support.core import OneMdt, line, lines, rows
from tests.support.damage import DAMAGES, IMPOSSIBLE, Damage
from tests.support.states import refill

LISTING = lines(range(1, 7))
LATER = [line(1, "STARTED"), *LISTING[1:-1], line(9)]
LATER_TOLD = ["PURGED 1/6 WAITING", "UPDATE 1/1 STARTED", "NEW 1/9 WAITING"]
# What a start reads; the rest of a row is read where its line has changed.
READ_AT_ONCE = [damage for damage in DAMAGES if damage.table != "actions" or damage.column in ("cat_idx", "hash")]


def named(damage: Damage) -> str:
    """For the names of tests."""
    return f"{damage.table}.{damage.column}={damage.value}"


def has_aside(mdt: OneMdt) -> bool:
    """Whether a state file was set aside."""
    return mdt.state.with_name(f"{mdt.state.name}.broken").exists()


@pytest.mark.parametrize("damage", READ_AT_ONCE, ids=named)
def test_a_poll_finds_what_it_reads_to_be_damaged_and_ends_right(mdt: OneMdt, damage: Damage) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    mdt.replica.close()
    damage.do(mdt.state)
    mdt.poll(*LATER)
    assert mdt.told() == LATER_TOLD
    assert has_aside(mdt)
    mdt.check(*LATER)


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage.table == "actions"], ids=named)
@pytest.mark.parametrize("restarted", [True, False])
def test_a_poll_that_needs_a_damaged_row_ends_right(mdt: OneMdt, damage: Damage, restarted: bool) -> None:
    mdt.poll(line(1))
    mdt.told()
    if restarted:
        mdt.replica.close()
    damage.do(mdt.state)
    mdt.poll(line(1, "STARTED"))
    assert mdt.told() == ["UPDATE 1/1 STARTED"]
    assert has_aside(mdt)
    mdt.check(line(1, "STARTED"))


@pytest.mark.parametrize(
    "script",
    [
        "ALTER TABLE actions RENAME COLUMN fid TO name",
        "DROP TABLE missed; CREATE TABLE missed (place INTEGER)",
        "DROP TABLE refresh; CREATE VIEW refresh AS SELECT 1 AS cat_idx",
        "DROP TABLE stream_position; CREATE TABLE stream_position (id INTEGER PRIMARY KEY)",
        "DROP TABLE poll_status; CREATE TABLE poll_status (id INTEGER PRIMARY KEY)",
    ],
)
def test_a_table_without_a_column_that_is_needed_is_damage(mdt: OneMdt, script: str) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    mdt.replica.close()
    with closing(sqlite3.connect(mdt.state)) as connection:
        connection.executescript(script)
    mdt.poll(*LATER)
    assert mdt.told() == LATER_TOLD
    assert has_aside(mdt)
    mdt.check(*LATER)


@pytest.mark.parametrize("damage", DAMAGES, ids=named)
def test_maintenance_finds_all_of_it(mdt: OneMdt, damage: Damage) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    damage.do(mdt.state)
    with pytest.raises(StateCorrupt) as found:
        check_for_damage(mdt.state)
    assert str(mdt.state) in str(set_aside(mdt.state, found.value))
    mdt.poll(*LATER)
    assert mdt.told() == LATER_TOLD
    mdt.check(*LATER)


@pytest.mark.parametrize("restarted", [True, False])
def test_a_digit_of_a_hash_that_is_another_one_repeats_no_event(mdt: OneMdt, restarted: bool) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    if restarted:
        mdt.replica.close()
    Damage("actions", "hash", "substr(hash, 1, 31) || CASE substr(hash, 32) WHEN '7' THEN '8' ELSE '7' END").do(
        mdt.state
    )
    mdt.poll(*LISTING)
    assert (mdt.told(), has_aside(mdt)) == ([], True)
    mdt.check(*LISTING)


def test_a_line_that_changed_and_kept_its_status_is_told(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    again = [data.replace(b"flags=0x0", b"flags=0x4") for data in LISTING]
    mdt.poll(*again)
    assert (mdt.told(), has_aside(mdt)) == ([f"UPDATE 1/{rec} WAITING" for rec in range(1, 7)], False)
    mdt.check(*again)


def test_random_cells_of_a_life(mdt: OneMdt) -> None:
    """Over and over again, also while the worker runs: whatever is damaged, the stream says what the list holds."""
    chance = random.Random(8)
    statuses = ["WAITING", "STARTED", "SUCCEED"]
    listing: dict[int, bytes] = {}
    for step in range(150):
        changed = chance.sample(range(1, 30), 4)
        for rec in changed[:3]:
            listing[rec] = line(rec, chance.choice(statuses))
        listing.pop(changed[3], None)
        mdt.poll(*(listing[rec] for rec in sorted(listing)))
        table, column = chance.choice(list(IMPOSSIBLE))
        if chance.random() < 0.3:
            mdt.replica.close()
        Damage(table, column, chance.choice(IMPOSSIBLE[table, column]), step).do(mdt.state)
    mdt.poll(*(listing[rec] for rec in sorted(listing)))
    mdt.replica.close()
    mdt.state.unlink()
    mdt.poll(*(listing[rec] for rec in sorted(listing)))
    mdt.check(*(listing[rec] for rec in sorted(listing)))


def test_what_was_damaged_is_said_once(mdt: OneMdt, caplog: pytest.LogCaptureFixture) -> None:
    mdt.poll(*LISTING)
    mdt.replica.close()
    Damage("actions", "hash", "substr(hash, 1, 31) || 'g'").do(mdt.state)
    mdt.poll(*LISTING)
    [said] = [told for told in caplog.records if told.levelno >= logging.WARNING]
    assert f"state file {mdt.state} is damaged: hash is '" in said.getMessage()
    assert f"it is set aside as {mdt.state}.broken" in said.getMessage()


WORDS = st.text(min_size=1) | st.sampled_from(["\0", "a\0b", "0", "5", " ", "\ufeff", "\uffff", "x" * 5000])
SECONDS = st.none() | st.integers(-(2**53), 2**53) | st.floats(-(2.0**53), 2.0**53)
INDICES = st.integers(0, 2**32 - 1) | st.integers(-(2**31), -1)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"event_type": st.just("NEW"), "cat_idx": INDICES, "rec_idx": INDICES, "fid": WORDS, "action": WORDS}
            | {"status": WORDS},
            optional={"cookie": st.none() | st.text(), "timestamp": SECONDS, "first_seen": SECONDS}
            | {"status_since": SECONDS, "raw": st.text(), "hash": st.binary(min_size=16, max_size=16).map(bytes.hex)},
        ),
        max_size=5,
    ),
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**64 - 1),
)
@settings(max_examples=60, deadline=None)
def test_whatever_a_stream_may_say_is_no_damage(said: list[dict[str, Any]], ms: int, sequence: int) -> None:
    live = ActionFold()
    entry_id = f"{ms}-{sequence}"
    assert live.fold_page([(entry_id.encode(), msgspec.json.encode(event)) for event in said]) == []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "elm-MDT0000.sqlite3"
        cache = StateFile(path)
        cache.load(LineIndex)
        refill(cache, live, Head(entry_id, entry_id, "ab" * 20, entry_id, 1, None))
        check_for_damage(path)
        assert len(cache.load(LineIndex).line_index) == len(live)
        assert rows(cache.live_actions()) == rows(live)
        cache.close()


# Beside the worker


def test_healing_does_not_trip_over_a_place_that_is_none(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    Damage("actions", "rec_idx", "'x'").do(mdt.state)
    with closing(StateFileHealer(mdt.state)) as state, pytest.raises(StateCorrupt), state.transaction():
        state.differences(StateFile(mdt.state).live_actions())


@pytest.mark.parametrize("value", IMPOSSIBLE["stream_position", "last_stream_id"])
def test_maintenance_does_not_read_a_stream_to_what_is_no_id(mdt: OneMdt, value: str) -> None:
    mdt.poll(*LISTING)
    Damage("stream_position", "last_stream_id", value).do(mdt.state)
    with closing(StateFileHealer(mdt.state)) as state, pytest.raises(StateCorrupt):
        state.position()


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage.table == "poll_status"], ids=named)
def test_who_only_looks_at_the_status_says_so(mdt: OneMdt, damage: Damage) -> None:
    mdt.poll(*LISTING)
    damage.do(mdt.state)
    with pytest.raises(StateError, match="the worker rebuilds a broken one"):
        read_poll_status(mdt.state)
    assert not has_aside(mdt)


# Migrations


def rename_migration(path: Path, old: str, new: str) -> None:
    """Damage the record of a migration."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE _sqlite_migrations SET name = {new} WHERE name = ?", [old])


@pytest.mark.parametrize("new", ["'0001_stbte'", "x'41'", "CAST(x'ff' AS TEXT)", "'9999_later'"])
def test_a_file_that_lacks_a_migration_of_ours_is_no_newer_one(path: Path, new: str) -> None:
    StateFile(path).close()
    rename_migration(path, next(iter(STEPS)), new)
    cache, remark = open_state_file(path)
    cache.close()
    assert remark is not None and "set aside" in remark


# Runs of maintenance

_NO_UTF8 = "CAST(x'ff' AS TEXT)"
RUNS = [
    *(("mdt", value) for value in ("x'41'", _NO_UTF8)),
    *(("started_at", value) for value in ("'x'", "x'31'", "9e999", "-1", "1e300")),
    *(("entries", value) for value in ("'x'", "x'31'", "-1", "0.5", "9e999", _NO_UTF8)),
    ("error", _NO_UTF8),
]


@pytest.mark.parametrize(("column", "value"), RUNS)
def test_a_damaged_run_is_said_and_then_set_aside(tmp_path: Path, column: str, value: str) -> None:
    run = RecordedRun(mdt="elm-MDT0000", host="mds1", started_at=1.0, duration_s=0.5, error="it failed")
    record(tmp_path, run)
    with closing(sqlite3.connect(runs_file(tmp_path), isolation_level=None)) as connection:
        connection.execute(f"UPDATE runs SET {column} = {value}")
    with pytest.raises(StateCorrupt, match=r"maintenance\.sqlite3"):
        last_runs(tmp_path)
    record(tmp_path, run)
    assert last_runs(tmp_path) == {"elm-MDT0000": run}
    assert runs_file(tmp_path).with_name("maintenance.sqlite3.broken").exists()
