"""Who holds a lock, as others see it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hsm_shipper.errors import (
    AlreadyRunning,
    ConfigError,
    ControlLost,
    HsmError,
    NotRunning,
    StateUnwritable,
    SupervisorError,
)
from hsm_shipper.state.locks import ONCE, SHIPPER_LOCK, FileLock, Holder, holder
from hsm_shipper.supervision.supervisord import Supervisor


def test_the_holder_of_a_lock_is_told_to_whoever_asks(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) is None
    with FileLock(path, "this test") as lock:
        assert holder(path) == Holder(str(os.getpid()), "")
        lock.write_pid("a remark")
        assert holder(path) == Holder(str(os.getpid()), "a remark")
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()} a remark,"):
            FileLock(path, "another")
    assert holder(path) is None
    for stale in ("", "unknown", "-1", "99999999999999999999", str(2**22 + 1)):
        path.write_text(stale)
        assert holder(path) is None


def test_a_lock_can_be_taken_again_where_its_file_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "folder/lock"
    with FileLock(path, "this test") as lock:
        fd = lock.fd
        path.unlink()
        path.parent.rmdir()
        assert not lock.is_at_path()
        lock.take_again()
        assert lock.is_at_path() and lock.fd == fd
        assert holder(path) == Holder(str(os.getpid()), "")
        path.unlink()
        with FileLock(path, "another"), pytest.raises(AlreadyRunning):
            lock.take_again()


def test_a_lock_without_room_for_its_holder_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maintenance and discovery live on, and take it again once there is room."""

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "lock"
    path.write_text("4194304\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", no_room)
        with pytest.raises(StateUnwritable, match=r"cannot write lock file .*: No space left on device; make room"):
            FileLock(path, "this test")
    assert path.read_text() == "4194304\n", "what is cut off first is room for another"
    with FileLock(path, "this test"):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StateUnwritable), (errno.EDQUOT, StateUnwritable), (errno.EACCES, ConfigError)],
)
def test_what_may_pass_is_not_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[HsmError]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind, match="cannot open lock file"):
        FileLock(tmp_path / "state/lock", "this test")


def test_without_a_socket_the_lock_tells_whether_a_shipper_runs(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "run", tmp_path)
    with pytest.raises(NotRunning):
        supervisor.pid()
    with FileLock(tmp_path / SHIPPER_LOCK, "this test") as lock:
        with pytest.raises(ControlLost, match=rf"hsm-action-shipper runs \(pid {os.getpid()}\), but nobody listens"):
            supervisor.pid()
        lock.write_pid(ONCE)
        with pytest.raises(NotRunning):
            supervisor.pid()
    (tmp_path / SHIPPER_LOCK).unlink()
    (tmp_path / SHIPPER_LOCK).symlink_to(SHIPPER_LOCK)  # ELOOP, for root as well
    with pytest.raises(SupervisorError, match="whether a shipper runs cannot be seen") as raised:
        supervisor.pid()
    assert not isinstance(raised.value, NotRunning)
