"""Locks between processes of one host, by flock(2): the kernel lets go of them however their holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from hsm_shipper.errors import AlreadyRunning, ConfigError

SHIPPER_LOCK = "shipper.lock"


def worker_lock_path(state_dir: Path, mdt: str) -> Path:
    """The lock of whoever writes the state file of `mdt`. It outlives the state file: unlinking it would race."""
    return state_dir / f"{mdt}.lock"


class FileLock:
    """An exclusive lock on `path`, which holds its holder's pid for people; taken at once or not at all.

    Raises `AlreadyRunning`, naming the holder, if another process has it.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.fd = self._take(what)
        # A holder may unlink its file before it lets go (a pid file): then what we hold keeps nobody out.
        while not self._is_at_path():
            os.close(self.fd)
            self.fd = self._take(what)
        self.write_pid()

    def _take(self, what: str) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            message = f"cannot open lock file {self.path}: {error.strerror}"
            raise ConfigError(message, "check the folder's owner") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise AlreadyRunning(f"{what} is already running (pid {holder}, lock {self.path})") from None
        return fd

    def _is_at_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fd), self.path.stat())
        except FileNotFoundError:
            return False

    def write_pid(self) -> None:
        """Record this process as the holder; again after a fork that carries the lock on."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go."""
        os.close(self.fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()
