"""The state file as a file: migrated, refused, set aside, and read by people."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from sqlite_utils import Database, Migrations

from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StateCorrupt, StateTooNew, StateUnwritable
from hsm_shipper.migrations import SET, STEPS
from hsm_shipper.state.database import translated
from hsm_shipper.state.poll_status import PollStatus, read_poll_status
from hsm_shipper.state.state_file import StateFile, open_state_file
from hsm_shipper.worker.changes import Change, rows_of
from hsm_shipper.worker.line_index import LineIndex
from tests.support.core import FullDisk, line, lines, live_action, rows
from tests.support.states import HEAD, STATUS, new


def apply(cache: StateFile, *changes: Change, head: Head = HEAD) -> None:
    """Make the changes in one transaction."""
    with cache.transaction():
        cache.apply(*rows_of(changes), head)


def content(cache: StateFile) -> list[tuple[object, ...]]:
    """The live actions."""
    return rows(cache.live_actions())


def schema(path: Path) -> dict[str, str]:
    """Every table and view, by name."""
    with sqlite3.connect(path) as connection:
        found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    connection.close()
    return found


@pytest.mark.parametrize("done", range(len(STEPS)))
def test_the_migrations_that_are_left_add_up_to_the_schema(path: Path, tmp_path: Path, done: int) -> None:
    before = Migrations(SET)
    for name, step in list(STEPS.items())[:done]:
        before(name=name)(step)
    database = Database(path)
    before.apply(database)
    database.conn.close()
    StateFile(path).close()
    StateFile(tmp_path / "fresh.sqlite3").close()
    assert schema(path) == schema(tmp_path / "fresh.sqlite3")


def test_rows_that_do_not_name_their_entries_are_read_from_the_stream_again(path: Path) -> None:
    before = Migrations(SET)
    for name, step in list(STEPS.items())[:2]:
        before(name=name)(step)
    database = Database(path)
    before.apply(database)
    database.execute("INSERT INTO stream_position VALUES (1, '5-0', '5-0', 'sha')")
    database.conn.commit()
    database.conn.close()
    for _ in range(2):
        cache = StateFile(path)
        assert cache.load(LineIndex).head is None
        cache.close()


def test_a_poll_of_an_earlier_release_is_told_before_and_after_the_update(path: Path) -> None:
    before = Migrations(SET)
    for name, step in list(STEPS.items())[:4]:
        before(name=name)(step)
    database = Database(path)
    before.apply(database)
    later = dict.fromkeys(["last_poll_read_s", "backlog_since"])
    columns = [name for name in PollStatus.__struct_fields__ if name not in later]
    marks = ", ".join("?" * len(columns))
    insert = f"INSERT INTO poll_status (id, {', '.join(columns)}) VALUES (1, {marks})"
    database.execute(insert, [getattr(STATUS, name) for name in columns])
    database.conn.commit()
    database.conn.close()
    earlier = msgspec.structs.replace(STATUS, **later)
    assert read_poll_status(path) == earlier, "its worker may be the earlier release's still"
    cache = StateFile(path)
    assert cache.poll_status() == earlier
    cache.save_poll_status(STATUS)
    cache.close()
    assert read_poll_status(path) == STATUS


def test_every_migration_is_recorded_once(path: Path) -> None:
    for _ in range(2):
        StateFile(path).close()
    with sqlite3.connect(path) as connection:
        recorded = connection.execute("SELECT migration_set, name FROM _sqlite_migrations ORDER BY name").fetchall()
    connection.close()
    assert recorded == [(SET, name) for name in sorted(STEPS)]
    migrations = Migrations(SET)
    for name, step in STEPS.items():
        migrations(name=name)(step)
    assert migrations.pending(Database(path)) == []


def test_the_schema_is_within_what_the_sqlite_of_enterprise_linux_8_understands(path: Path) -> None:
    StateFile(path).close()
    for sql in schema(path).values():
        assert not re.search(
            r"\bSTRICT\b|unixepoch\(|->|\bRETURNING\b|\biif\(|GENERATED|\bNULLS (FIRST|LAST)", sql, re.I
        )


def test_a_file_of_a_newer_release_is_refused_and_left_as_it_is(path: Path) -> None:
    StateFile(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES (?, '9999_later')", (SET,))
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateTooNew, match="9999_later"):
        open_state_file(path)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    with pytest.raises(StateTooNew, match="9999_later"):  # what `status` and `check` say
        read_poll_status(path)


@pytest.mark.parametrize("is_there", [True, False])
def test_what_migrates_is_not_held_in_memory_where_nothing_is_to_be_migrated(path: Path, is_there: bool) -> None:
    """A worker has to fit beside a metadata server's real work, and its first event waits for what it imports."""
    if is_there:
        open_state_file(path)[0].close()
    look = (
        "import sys; from pathlib import Path; from hsm_shipper.state.state_file import StateFile; "
        "StateFile(Path(sys.argv[1])).close(); print('sqlite_utils' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", look, path], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()
    cache, remark = open_state_file(path)
    assert (cache.load(LineIndex)[0], remark) == (None, None)
    cache.close()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def damaged_inside(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * 4096 + whole[8192:])


@pytest.mark.parametrize("spoil", [truncated, garbage, damaged_inside], ids=lambda spoil: spoil.__name__)
def test_a_broken_file_is_set_aside_and_made_anew(path: Path, cache: StateFile, spoil: Callable[[Path], None]) -> None:
    apply(cache, *map(new, lines(range(1, 500))))
    cache.close()
    spoil(path)
    broken = path.read_bytes()
    with pytest.raises(StateCorrupt):
        StateFile(path)
    again, remark = open_state_file(path)
    assert (again.load(LineIndex)[0], content(again)) == (None, [])
    apply(again, new(line(1)))
    again.close()
    assert path.with_name(f"{path.name}.broken").read_bytes() == broken
    assert remark is not None
    assert f"{path.name}.broken" in remark


def test_the_database_of_another_program_is_set_aside(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE actions (name TEXT)")
    connection.close()
    cache, _ = open_state_file(path)
    assert cache.load(LineIndex)[0] is None
    cache.close()
    assert schema(path.with_name(f"{path.name}.broken"))["actions"] == "CREATE TABLE actions (name TEXT)"


def test_a_broken_file_that_cannot_be_set_aside_says_what_to_do(path: Path) -> None:
    path.write_bytes(b"\xa5" * 10_000)
    (path.with_name(f"{path.name}.broken") / "in the way").mkdir(parents=True)
    with pytest.raises(StateUnwritable) as refused:
        open_state_file(path)
    assert "remove it by hand" in refused.value.hint


def test_a_disk_too_full_for_a_new_file_is_said_to_be_and_nothing_is_set_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    disk.fill()
    with pytest.raises(StateUnwritable) as full:
        open_state_file(path)
    assert "make room" in full.value.hint
    assert not path.with_name(f"{path.name}.broken").exists()
    disk.make_room()
    open_state_file(path)[0].close()


def test_a_folder_that_is_none_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(StateUnwritable) as refused:
        StateFile(tmp_path / "state" / "elm-MDT0000.sqlite3")
    assert "permissions" in refused.value.hint


def test_whether_the_open_file_is_still_the_one_with_its_name(path: Path, cache: StateFile) -> None:
    assert cache.is_current()
    path.rename(path.with_suffix(".old"))
    assert not cache.is_current()
    path.touch()
    assert not cache.is_current()
    path.with_suffix(".old").replace(path)
    assert cache.is_current()


# What a person finds in it


def test_the_last_polls_status_is_kept(path: Path, cache: StateFile) -> None:
    for polls in (3, 4):
        cache.save_poll_status(msgspec.structs.replace(STATUS, polls=polls))
    assert cache.poll_status() == msgspec.structs.replace(STATUS, polls=4)
    assert read_poll_status(path) == msgspec.structs.replace(STATUS, polls=4)


def test_there_is_no_status_before_the_worker_has_made_its_tables(path: Path) -> None:
    assert read_poll_status(path) is None
    path.touch()
    assert read_poll_status(path) is None


def test_the_status_can_be_read_while_the_worker_writes(path: Path, cache: StateFile) -> None:
    cache.save_poll_status(STATUS)
    with cache.transaction():
        cache.apply(*rows_of([new(line(1))]), HEAD)
        assert read_poll_status(path) == STATUS


def asked(path: Path, query: str) -> list[tuple[object, ...]]:
    """What another process reads."""
    connection = sqlite3.connect(path)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_view_live_by_status(path: Path, cache: StateFile) -> None:
    def action(data: bytes, first_seen: int, status_since: int) -> Change:
        return Change("NEW", None, None, live_action(data, first_seen=first_seen, status_since=status_since))

    apply(
        cache,
        action(line(1), 1_759_401_125, 1_759_401_125),
        action(line(2), 1_759_401_000, 1_759_401_130),
        action(line(3, "STARTED"), 0, 60),
        action(line(4, action="RESTORE"), 0, 60),
    )
    assert asked(path, "SELECT * FROM live_by_status") == [
        ("ARCHIVE", "STARTED", 1, "1970-01-01 00:00:00Z", "1970-01-01 00:01:00Z"),
        ("ARCHIVE", "WAITING", 2, "2025-10-02 10:30:00Z", "2025-10-02 10:32:10Z"),
        ("RESTORE", "WAITING", 1, "1970-01-01 00:00:00Z", "1970-01-01 00:01:00Z"),
    ]


def test_view_oldest_actions(path: Path, cache: StateFile) -> None:
    for rec, first_seen in ((1, 200), (2, 100), (3, 300)):
        apply(cache, Change("NEW", None, None, live_action(line(rec, cat=5), first_seen=first_seen, status_since=360)))
    found = asked(path, "SELECT fid, action, status, first_seen, status_since, idx, cookie FROM oldest_actions LIMIT 2")
    since = "1970-01-01 00:06:00Z"
    assert found == [
        ("0x200000401:0x2:0x0", "ARCHIVE", "WAITING", "1970-01-01 00:01:40Z", since, "5/2", "0x6b020002"),
        ("0x200000401:0x1:0x0", "ARCHIVE", "WAITING", "1970-01-01 00:03:20Z", since, "5/1", "0x6b020001"),
    ]
    ages = asked(path, "SELECT age_s, CAST(strftime('%s', 'now') AS INTEGER) - 100 FROM oldest_actions LIMIT 1")
    assert ages[0][0] == ages[0][1]


def test_view_shipper_status(path: Path, cache: StateFile) -> None:
    apply(cache, new(line(1)))
    cache.save_poll_status(STATUS)
    assert asked(path, "SELECT * FROM shipper_status") == [
        (
            "elm-MDT0000", "mds1", 7, 3, "2025-10-02 10:32:05Z", 0.123, 0.057, 9, 8, 1, "2025-10-02 10:30:05Z",
            20, 30, 12, 2, 1, "5-0", "Redis went away", "2025-10-02 10:31:05Z",
        )
    ]  # fmt: skip


def test_an_input_output_error_names_the_two_things_to_look_at(path: Path) -> None:
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE  # no room for what SQLite keeps beside the file
    with pytest.raises(StateUnwritable) as error, translated(path, "open"):
        raise failure
    assert "disk I/O error" in error.value.message
    assert "make room" in error.value.hint and "kernel's log" in error.value.hint
