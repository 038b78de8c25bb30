"""Locks between processes of one host, by flock(2): the kernel lets go of them however their holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from hsm_shipper.errors import AlreadyRunning, ConfigError, StateUnwritable, may_pass, writing_hint
from hsm_shipper.process.own_files import refuse_link

SHIPPER_LOCK = "shipper.lock"
# What the holder of that lock remarks if it polls once, without supervisord.
ONCE = "--run-once"


def worker_lock_path(state_dir: Path, mdt: str) -> Path:
    """The lock of whoever writes the state file of `mdt`. It outlives the state file: unlinking it would race."""
    return state_dir / f"{mdt}.lock"


class Holder(NamedTuple):
    """Who holds a lock, for people: the pid, and what it does where that is not the usual."""

    pid: str
    remark: str


def holder(path: Path) -> Holder | None:
    """Who holds the lock on `path`; None if nobody does. Raises `OSError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would keep us waiting
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        pid, _, remark = _content(fd).partition(" ")
        # Where its last holder is gone it is not touched: we would keep another from taking it for a moment.
        if not _is_alive(pid):
            return None
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Holder(pid, remark)
    finally:
        os.close(fd)
    return None


def _content(fd: int) -> str:
    return os.pread(fd, 32, 0).decode(errors="replace").strip()


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


class FileLock:
    """An exclusive lock on `path`, which holds its holder's pid for people; taken at once or not at all.

    Raises `AlreadyRunning`, naming the holder, if another process has it; if it cannot be used `ConfigError`, or
    `StateUnwritable` where that may pass (no room, an I/O error).
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self.fd = self._take()
        # A holder may unlink its file before it lets go (a pid file): then what we hold keeps nobody out.
        while not self.is_at_path():
            os.close(self.fd)
            self.fd = self._take()
        try:
            self.write_pid()
        except BaseException:
            self.release()  # this process lives on, and would keep everybody out, itself as well
            raise

    def _take(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = self._open()
        except OSError as error:
            raise self._unusable("open", error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _content(fd) or "unknown"
            os.close(fd)
            raise AlreadyRunning(f"{self._what} is already running (pid {holder}, lock {self.path})") from None
        return fd

    def _unusable(self, what: str, error: OSError) -> ConfigError | StateUnwritable:
        message = f"cannot {what} lock file {self.path}: {error.strerror}"
        if may_pass(error):
            return StateUnwritable(message, "make room on its file system; else look into the kernel's log")
        return ConfigError(message, writing_hint(error, "check it, and the folder's owner"))

    def _open(self) -> int:
        """The file, made if it is not there. What is not ours alone would lose its content to our pid.

        A hard link is replaced by a file of ours, unless it is locked: backups by links leave such.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        refuse_link(self.path, hard=False)
        fd = os.open(self.path, flags, 0o640)
        if os.fstat(fd).st_nlink <= 1:
            return fd
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return fd
        import tempfile  # late: it costs as much as the rest of a short command

        # Whoever opens the path from now on finds the new file, and whoever has the old one that it is at no path.
        fresh, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(name).replace(self.path)
        os.close(fd)
        return fresh

    def is_at_path(self) -> bool:
        """Whether the file that is locked is still the one that others find."""
        try:
            return os.path.samestat(os.fstat(self.fd), self.path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def take_again(self) -> None:
        """Lock the file that is at the path now, made anew if need be, on the same descriptor."""
        again = FileLock(self.path, self._what)
        self.fd = os.dup2(again.fd, self.fd, inheritable=False)
        again.release()

    def write_pid(self, remark: str = "") -> None:
        """Record this process as the holder; again after a fork that carries the lock on.

        Over what the holder before has written: that takes no room, of which there may be none.
        """
        text = f"{f'{os.getpid()} {remark}'.rstrip()}\n".encode()
        try:
            os.pwrite(self.fd, text, 0)
            os.ftruncate(self.fd, len(text))
        except OSError as error:
            raise self._unusable("write", error) from None

    def release(self) -> None:
        """Let go."""
        os.close(self.fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()
