"""The state file as a store: what it keeps, and its transactions."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StateChanged, StateUnwritable
from hsm_shipper.state import state_file as cache_module
from hsm_shipper.state.rows import COLUMNS
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.changes import Change, rows_of
from hsm_shipper.worker.line_index import LineIndex
from tests.support.core import FullDisk, digest, line, lines, live_action, place, rows
from tests.support.states import HEAD, STATUS, new


def gone(data: bytes) -> Change:
    """The change that ends the action of `data`."""
    return Change("PURGED", None, live_action(data), None)


def apply(cache: StateFile, *changes: Change, head: Head = HEAD) -> None:
    """Make the changes in one transaction."""
    with cache.transaction():
        cache.apply(*rows_of(changes), head)


def content(cache: StateFile) -> list[tuple[object, ...]]:
    """The live actions."""
    return rows(cache.live_actions())


def of(*listing: bytes) -> list[tuple[object, ...]]:
    """The live actions that these lines show."""
    live = ActionFold()
    for data in listing:
        live.put(live_action(data))
    return rows(live)


# What it keeps


def test_a_new_file_knows_nothing(cache: StateFile) -> None:
    head, known, missed, _ = cache.load(LineIndex)
    assert (head, len(known), missed, content(cache), cache.poll_status()) == (None, 0, set(), [], None)


def test_what_was_applied_is_there_when_the_file_is_opened_again(path: Path, cache: StateFile) -> None:
    apply(cache, new(line(1)), new(line(2, cat=2**32 - 1)))
    cache.set_missed({place(1), place(2**32 - 1, cat=7)})
    cache.close()
    again = StateFile(path)
    head, known, missed, _ = again.load(LineIndex)
    assert (head, missed) == (HEAD, {place(1), place(2**32 - 1, cat=7)})
    assert len(known) == 2 and digest(line(1)) in known and digest(line(2, cat=2**32 - 1)) in known
    assert content(again) == of(line(1), line(2, cat=2**32 - 1))
    again.close()


def test_what_is_not_known_of_an_action_stays_unknown(cache: StateFile) -> None:
    unknown = ActionState.make(place(1), "0x1:0x1:0x0", "ARCHIVE", "WAITING", None, None, None, None)
    apply(cache, Change("NEW", None, None, unknown))
    assert list(cache.live_actions()) == [unknown]
    known = cache.load(LineIndex).line_index
    assert (len(known), known.unseen()) == (1, set())
    known.begin()
    assert known.unseen() == {place(1)}  # looked for by its place


def test_a_change_replaces_the_row_and_an_end_removes_it(cache: StateFile) -> None:
    apply(cache, new(line(1)), new(line(2)), new(line(3)))
    apply(cache, gone(line(2)), new(line(3, "STARTED")))
    assert content(cache) == of(line(1), line(3, "STARTED"))


def test_a_place_that_a_batch_empties_may_be_filled_by_the_same_batch(cache: StateFile) -> None:
    apply(cache, new(line(1)))
    apply(cache, gone(line(1)), new(line(1, cookie=9)))
    assert content(cache) == of(line(1, cookie=9))


@pytest.mark.parametrize("count", [49, 50, 51, 100, 120])
def test_batches_of_every_size_are_written_whole_and_in_order(cache: StateFile, count: int) -> None:
    apply(cache, *(new(line(rec)) for rec in range(count)), new(line(0, "STARTED")))
    assert content(cache) == of(*(line(rec, "STARTED" if rec == 0 else "WAITING") for rec in range(count)))


def test_a_statement_has_no_more_parameters_than_old_sqlite_takes(cache: StateFile) -> None:
    seen: list[str] = []
    cache._connection.set_trace_callback(seen.append)
    apply(cache, *(new(line(rec)) for rec in range(1000)))
    inserts = [statement for statement in seen if statement.startswith("INSERT OR REPLACE INTO actions")]
    values = [statement.count("0x200000401") for statement in inserts]
    assert sum(values) == 1000
    assert max(values) > 1, "several rows to a statement"
    assert max(values) * len(COLUMNS.split(",")) <= 999


def test_a_head_without_entries_is_kept(cache: StateFile) -> None:
    apply(cache, head=Head("7-1", None, None))
    assert cache.load(LineIndex)[0] == Head("7-1", None, None)


def test_what_was_missed_is_replaced_as_a_whole(cache: StateFile) -> None:
    cache.set_missed({place(1), place(2)})
    cache.set_missed({place(2), place(3)})
    assert cache.load(LineIndex)[2] == {place(2), place(3)}


def test_actions_are_found_by_their_places_whatever_their_number(cache: StateFile) -> None:
    listing = lines(range(1, 2001)) + [line(rec, cat=2) for rec in range(1, 4)]
    apply(cache, *map(new, listing))
    asked = [place(rec) for rec in range(1, 2001, 2)] + [place(2, cat=2), place(9, cat=2), place(1, cat=3)]
    found = cache.actions_at(asked[::-1])
    assert found == {action.place: action for action in map(live_action, listing) if action.place in set(asked)}
    assert len(found) == 1001


def test_rows_that_stand_apart_are_asked_for_by_few_different_statements(cache: StateFile) -> None:
    """The last 128 are kept, and one with 900 parameters takes 140 KB."""
    apply(cache, *(new(line(rec)) for rec in range(0, 3000, 2)))
    seen: set[str] = set()
    cache._connection.set_trace_callback(lambda statement: seen.add(re.sub("[0-9]+", "?", statement)))
    for count in range(2, 1000, 30):
        apart = [place(3 * rec) for rec in range(count)]
        assert cache.actions_at(apart).keys() == {place(3 * rec) for rec in range(0, count, 2)}
    assert len(seen) <= 10


# Transactions


def test_what_goes_wrong_in_a_transaction_leaves_no_trace(cache: StateFile) -> None:
    apply(cache, new(line(1)))

    def fail_half_way() -> None:
        cache.apply(*rows_of([new(line(2))]), Head("9-0", None, None))
        raise KeyError

    with pytest.raises(KeyError), cache.transaction():
        fail_half_way()
    assert (cache.load(LineIndex)[0], content(cache)) == (HEAD, of(line(1)))
    apply(cache, new(line(3)))


def test_a_commit_of_another_process_is_noticed_until_it_is_loaded(path: Path, cache: StateFile) -> None:
    apply(cache, new(line(1)))
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM actions")
        other.execute("UPDATE stream_position SET live_actions = 0, live_actions_sum = 0")
    other.close()
    for _ in range(2):
        with pytest.raises(StateChanged), cache.transaction():
            pytest.fail("the body must not run")
    cache.load(LineIndex)
    apply(cache, new(line(2)))
    assert content(cache) == of(line(2))


def test_commits_of_our_own_are_no_change(path: Path, cache: StateFile) -> None:
    apply(cache, new(line(1)))
    cache.save_poll_status(STATUS)
    cache.set_missed({place(1)})
    apply(cache, new(line(2)))


def test_who_only_reads_or_rolls_back_changes_nothing(path: Path, cache: StateFile) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM actions")
    other.execute("ROLLBACK")
    other.execute("SELECT * FROM actions").fetchall()
    apply(cache, new(line(1)))
    other.close()


def test_who_reads_for_long_holds_up_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "BUSY_TIMEOUT_S", 0.05)
    cache = StateFile(path)
    cache.load(LineIndex)
    apply(cache, new(line(1)))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    before = other.execute("SELECT count(*) FROM actions").fetchone()
    apply(cache, new(line(2)))
    assert other.execute("SELECT count(*) FROM actions").fetchone() == before
    other.close()
    cache.close()


def test_a_file_that_somebody_holds_locked_is_said_to_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "BUSY_TIMEOUT_S", 0.05)
    cache = StateFile(path)
    cache.load(LineIndex)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnwritable) as locked:
        apply(cache, new(line(1)))
    assert "sqlite3 shell" in locked.value.hint
    other.execute("ROLLBACK")
    other.close()
    apply(cache, new(line(1)))
    cache.close()


def test_a_full_disk_undoes_the_batch_and_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    cache = StateFile(path)
    cache.load(LineIndex)
    apply(cache, new(line(1)))
    disk.fill()
    with pytest.raises(StateUnwritable) as full:
        apply(cache, *map(new, lines(range(2, 2000))), head=Head("9-0", None, None))
    assert "make room" in full.value.hint
    assert (cache.load(LineIndex)[0], content(cache)) == (HEAD, of(line(1)))
    disk.make_room()
    apply(cache, *map(new, lines(range(2, 2000))))
    assert len(content(cache)) == 1999
    cache.close()
