"""Files that SQLite keeps: opened, read and set aside in one place."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hsm_shipper.errors import StateCorrupt, StateError
from hsm_shipper.state.damage import refuse_damage, set_aside
from hsm_shipper.state.database import connect, immediate, opened, read, roll_back

ROOT = Path(__file__).parents[2]


def test_nothing_else_opens_such_files() -> None:
    sources = [path for package in ("hsm_shipper", "hsm_tools") for path in (ROOT / package).rglob("*.py")]
    assert [path.name for path in sources if "sqlite3.connect(" in path.read_text()] == ["database.py"]


@pytest.mark.parametrize("name", ["a?mode=memory", "a#b", "100%41", "ä b", "\udc80"], ids=ascii)
def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with closing(connect(path, "rwc", 1.0)) as connection:
        connection.execute("CREATE TABLE t (x)")
    assert list(tmp_path.iterdir()) == [path]
    assert read(path, "t", lambda connection: connection.execute("SELECT count(*) FROM t").fetchone()) == (0,)


def test_a_path_with_two_slashes_at_its_beginning(tmp_path: Path) -> None:
    path = Path(f"/{tmp_path}/a")
    assert str(path).startswith("//")
    connect(path, "rwc", 1.0).close()
    connect(path, "ro", 1.0).close()


def test_what_is_not_there_yet_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert read(path, "t", lambda _: 1) is None and not path.exists()
    connect(path, "rwc", 1.0).close()
    assert read(path, "t", lambda _: 1) is None


def test_a_transaction_is_whole_or_leaves_no_trace(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "a", "rwc", 1.0)) as connection:
        connection.execute("CREATE TABLE t (x)")
        with immediate(connection):
            connection.execute("INSERT INTO t VALUES (1)")
        with suppress(ZeroDivisionError), immediate(connection):
            connection.execute("INSERT INTO t VALUES (3)")
            raise ZeroDivisionError
        with immediate(connection):
            connection.execute("INSERT INTO t VALUES (2)")
            roll_back(connection)
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_errors_are_ours_and_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=str(tmp_path / "a")), opened(tmp_path / "a", "rw", "check", 1.0):
        pass
    (tmp_path / "a").write_bytes(b"no database " * 100)
    with pytest.raises(StateCorrupt, match="cannot check"), opened(tmp_path / "a", "rw", "check", 1.0) as connection:
        refuse_damage(connection, tmp_path / "a")


def test_what_is_set_aside_takes_its_logs_out_of_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"a{suffix}").write_bytes(b"x")
    told = set_aside(path, StateCorrupt("it is damaged"))
    assert [found.name for found in tmp_path.iterdir()] == ["a.broken"] and f"{path}.broken" in str(told)


def test_who_reads_holds_up_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with closing(connect(path, "rwc", 0.0)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE t (x)")

        def look(connection: sqlite3.Connection) -> int:
            with immediate(writer):
                writer.execute("INSERT INTO t VALUES (1)")
            return len(connection.execute("SELECT * FROM t").fetchall())

        assert read(path, "t", look) == 1
