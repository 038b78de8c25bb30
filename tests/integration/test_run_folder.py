"""Putting back what a run_dir has lost, without a supervisord."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hsm_shipper.config import Config, load_config
from hsm_shipper.errors import AlreadyRunning, ConfigError, SupervisorError
from hsm_shipper.state.locks import FileLock
from hsm_shipper.supervision.run_folder import CONFIG_FILE, PID_FILE, RunFolder, make_keeper

ALL = [PID_FILE, CONFIG_FILE, "supervisord.pid", "mdt.d"]


@contextmanager
def no_room() -> Iterator[None]:
    """No file can grow beyond its first bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration with a run_dir that is not there yet, and a password in its address."""
    return Config(run_dir=str(tmp_path / "run"), state_dir=str(tmp_path / "state"), redis_url="redis://:secret@host/1")


@pytest.fixture
def folder(config: Config) -> Iterator[RunFolder]:
    """A run_dir of this process that has lost everything."""
    with FileLock(config.run_path / PID_FILE, "this test") as lock:
        shutil.rmtree(config.run_path)
        yield RunFolder(config, lock)


def test_everything_is_put_back_once(folder: RunFolder, config: Config) -> None:
    assert list(folder.put_back()) == ALL
    assert list(folder.put_back()) == []
    assert sorted(path.name for path in folder.path.iterdir()) == sorted(ALL)
    assert load_config(folder.path / CONFIG_FILE, {}).config == config
    assert (folder.path / CONFIG_FILE).stat().st_mode & 0o777 == 0o600
    for name in (PID_FILE, "supervisord.pid"):
        assert (folder.path / name).read_text() == f"{os.getpid()}\n"


def test_what_there_is_no_room_for_is_put_back_whole_later(folder: RunFolder, config: Config) -> None:
    with no_room(), pytest.raises(ConfigError, match="cannot write"):
        list(folder.put_back())
    assert list(folder.put_back()) == ALL[1:]
    assert load_config(folder.path / CONFIG_FILE, {}).config == config


def test_a_full_disk_is_no_configuration_for_a_person(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hsm_shipper.supervision.run_folder.write_whole", no_room)
    with pytest.raises(SupervisorError, match=r"cannot write .*/config\.json: No space left on device; make room"):
        folder.write_config()


def test_a_folder_that_another_has_by_now_is_left_as_it_is(folder: RunFolder, config: Config) -> None:
    with FileLock(config.run_path / PID_FILE, "another"):
        with pytest.raises(AlreadyRunning):
            list(folder.put_back())
        assert [path.name for path in folder.path.iterdir()] == [PID_FILE]
        with pytest.raises(AlreadyRunning):
            folder.clear()
        assert (folder.path / PID_FILE).exists()


def test_at_the_end_it_is_cleared_whether_or_not_it_is_there(folder: RunFolder) -> None:
    folder.clear()
    folder.path.write_text("in the way")
    folder.clear()
    folder.path.unlink()
    list(folder.put_back())
    folder.clear()
    assert sorted(path.name for path in folder.path.iterdir()) == ["mdt.d", "supervisord.pid"]


def test_a_reload_under_a_release_that_knows_none_of_this_only_says_so() -> None:
    assert RunFolder.kept is None
    said: list[str] = []
    options = SimpleNamespace(logger=SimpleNamespace(warn=said.append))
    make_keeper(SimpleNamespace(options=options))
    assert len(said) == 1 and "restarted" in said[0]
