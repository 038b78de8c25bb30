"""Links in the folders of the shipper to somebody else's files: these keep their content and their mode."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from hsm_shipper.config import Config
from hsm_shipper.contract.kernel_line import pack_place
from hsm_shipper.errors import AlreadyRunning, ConfigError, StateCorrupt, StateUnwritable
from hsm_shipper.process.own_files import open_for_append
from hsm_shipper.process.whole_file import write_whole
from hsm_shipper.state.damage import check_for_damage
from hsm_shipper.state.database import tidy
from hsm_shipper.state.forget import forget
from hsm_shipper.state.locks import FileLock
from hsm_shipper.state.maintenance_log import RecordedRun, last_runs, record, runs_file
from hsm_shipper.state.outbox_rows import OutboxRow, waiting_in
from hsm_shipper.state.poll_status import read_poll_status, state_file
from hsm_shipper.state.state_file import StateFile, open_state_file
from hsm_shipper.supervision.run_folder import RunFolder
from hsm_shipper.supervision.supervisord import ProgramFiles
from hsm_shipper.worker.line_index import LineIndex
from tests.support.states import HEAD

Link = Callable[[Path, Path], None]
CONTENT = "somebody else's"
MDT = "elm-MDT0000"


def symbolic(path: Path, target: Path) -> None:
    """A symbolic link."""
    path.symlink_to(target)


def hard(path: Path, target: Path) -> None:
    """A hard link, where others may have made it."""
    path.parent.chmod(0o770)
    path.hardlink_to(target)


both = pytest.mark.parametrize("link", [symbolic, hard])


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Path]:
    """A file of somebody else's, which must be as it was at the end."""
    path = tmp_path / "theirs"
    path.write_text(CONTENT)
    path.chmod(0o604)
    yield path
    assert path.read_text() == CONTENT and path.stat().st_mode & 0o7777 == 0o604


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """The same, of another program's that SQLite can open."""
    path = tmp_path / "their.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state_dir, or run_dir."""
    path = tmp_path / "ours"
    path.mkdir(mode=0o750)
    return path


def write(opened: StateFile) -> None:
    """Commit something."""
    opened.load(LineIndex)
    with opened.transaction():
        opened.set_position(HEAD)
    opened.close()


def test_a_lock_does_not_follow_a_symbolic_link(folder: Path, theirs: Path) -> None:
    (folder / "lock").symlink_to(theirs)
    with pytest.raises(ConfigError, match="lock: it is a symbolic link; check it"):
        FileLock(folder / "lock", "this test")
    (folder / "dangling").symlink_to(folder / "new")
    with pytest.raises(ConfigError, match="it is a symbolic link"):
        FileLock(folder / "dangling", "this test")
    assert not (folder / "new").exists()


def test_a_lock_is_no_fifo(folder: Path) -> None:
    os.mkfifo(folder / "lock")
    with pytest.raises(ConfigError, match="it is no regular file"):
        FileLock(folder / "lock", "this test")


def test_a_lock_with_another_name_is_replaced(folder: Path, theirs: Path) -> None:
    (folder / "lock").hardlink_to(theirs)
    with FileLock(folder / "lock", "this test") as lock:
        assert lock.is_at_path() and (folder / "lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(AlreadyRunning):
            FileLock(folder / "lock", "another")
    assert theirs.stat().st_nlink == 1


def test_a_lock_that_is_held_stays_what_it_is_whatever_names_it_is_given(folder: Path) -> None:
    """Backups by links do that; a second holder must not come of it."""
    with FileLock(folder / "lock", "this test") as lock:
        (folder / "backup").hardlink_to(folder / "lock")
        with pytest.raises(AlreadyRunning):
            FileLock(folder / "lock", "another")
        assert lock.is_at_path()


@both
def test_a_state_file_that_is_a_link_is_made_anew(folder: Path, database: Path, link: Link) -> None:
    path = state_file(folder, MDT)
    link(path, database)
    with pytest.raises(StateCorrupt, match="none of ours: it is a"):
        read_poll_status(path)
    opened, told = open_state_file(path)
    assert told is not None and f"it is set aside as {path}.broken" in told
    write(opened)
    assert not path.is_symlink() and path.stat().st_nlink == 1


@both
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_sqlite_keeps_beside_it_neither(folder: Path, theirs: Path, link: Link, suffix: str) -> None:
    path = state_file(folder, MDT)
    open_state_file(path)[0].close()
    link(path.with_name(path.name + suffix), theirs)
    opened, told = open_state_file(path)
    assert told is not None and f"{path.name}{suffix} is none of ours" in told
    write(opened)


@both
def test_the_record_of_maintenance_is_made_anew(folder: Path, database: Path, link: Link) -> None:
    link(runs_file(folder), database)
    record(folder, RecordedRun(mdt=MDT, host="mds1", started_at=1.0, duration_s=1.0))
    assert last_runs(folder).keys() == {MDT}


@both
def test_forgetting_an_mdt_removes_links_alone(folder: Path, theirs: Path, link: Link) -> None:
    path = state_file(folder, MDT)
    for suffix in ("", "-wal", "-shm"):
        link(path.with_name(path.name + suffix), theirs)
    assert forget(folder, MDT)
    assert not path.is_symlink() and not path.exists()


@both
def test_a_file_that_is_replaced_whole(folder: Path, theirs: Path, link: Link) -> None:
    link(folder / "file", theirs)
    write_whole(folder / "file", b"ours", 0o600)
    assert (folder / "file").read_bytes() == b"ours"


def test_program_files_are_not_removed_elsewhere(tmp_path: Path, folder: Path, theirs: Path) -> None:
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir()
    (elsewhere / "passwd").hardlink_to(theirs)
    files = ProgramFiles(folder)
    files.folder.symlink_to(elsewhere)
    files.empty()
    assert (elsewhere / "passwd").exists() and not files.folder.is_symlink()
    assert [path.name for path in files.folder.iterdir()] == ["README.conf"]
    (files.folder / "README.conf").unlink()
    (files.folder / "README.conf").symlink_to(theirs)
    files.make()


def test_the_pid_file_of_supervisord_is_not_followed(folder: Path, theirs: Path) -> None:
    (folder / "supervisord.pid").symlink_to(theirs)
    (folder / "config.json").symlink_to(theirs)
    with FileLock(folder / "lock", "this test") as lock:
        RunFolder(Config(run_dir=str(folder)), lock).prepare()
    assert not (folder / "supervisord.pid").is_symlink()
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o600


@both
def test_a_log_where_others_may_write(folder: Path, theirs: Path, link: Link) -> None:
    link(folder / "log", theirs)
    folder.chmod(0o777)
    with pytest.raises(OSError, match="it is a"):
        open_for_append(folder / "log")


def test_a_log_that_the_site_sends_elsewhere(tmp_path: Path, folder: Path) -> None:
    """A link in a folder where nobody else could have put it, and what is no file."""
    (folder / "log").symlink_to(tmp_path / "log")
    os.close(open_for_append(folder / "log"))
    assert (tmp_path / "log").stat().st_mode & 0o777 & ~0o640 == 0
    os.close(open_for_append("/dev/null"))


def test_a_copy_by_links_costs_nothing(tmp_path: Path, folder: Path) -> None:
    """`cp -al state_dir backup`, while the worker runs: what waits for Redis is nowhere else."""
    path = state_file(folder, MDT)
    opened = waiting(path)
    shutil.copytree(folder, tmp_path / "backup", copy_function=os.link)
    check_for_damage(path)
    tidy(path)
    assert read_poll_status(path) is None
    opened.close()
    opened, told = open_state_file(path)
    opened.load(LineIndex)
    assert told is None and opened.outbox.events == 1
    opened.close()


def waiting(path: Path) -> StateFile:
    """A state file in which an event waits."""
    opened = open_state_file(path)[0]
    opened.load(LineIndex)
    with opened.transaction():
        opened.keep([OutboxRow(0, 1, "NEW", pack_place(1, 1), None, b"0" * 16, b"{}")])
        opened.set_position(HEAD)
    return opened


def test_what_cannot_be_looked_at_is_not_set_aside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state_file(folder, MDT)
    waiting(path).close()
    for number in (errno.EIO, errno.ESTALE, errno.EACCES):
        error = OSError(number, os.strerror(number))
        with monkeypatch.context() as patched:
            patched.setattr(Path, "lstat", Mock(side_effect=error))
            with pytest.raises(StateUnwritable, match="cannot look at state file") as told:
                open_state_file(path)
        assert os.strerror(number) in told.value.message and told.value.hint
    assert waiting_in(path) == 1


def test_what_waits_behind_a_link_is_said_to_be_lost_uncounted(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = state_file(folder, MDT)
    waiting(path).close()
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    opened, told = open_state_file(path)
    opened.close()
    assert told is not None and "events that waited in it for Redis, if there were any, are lost" in told
    path.unlink()
    path.symlink_to(elsewhere)
    assert forget(folder, MDT)
    assert f"some, or no, events of {MDT} that waited for Redis are lost" in caplog.text
