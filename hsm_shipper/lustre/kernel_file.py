"""Opening what the kernel shows as a file: at once, whatever stands in its place."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Protocol


class RawFile(Protocol):
    """What the reader needs of an open file (`KernelFile` has it; tests inject faults here)."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, empty at the end of the file; raises OSError."""

    def rewind(self) -> None:
        """Go back to the beginning: a debugfs file is rendered anew at the next read(). Raises OSError."""

    def is_current(self) -> bool:
        """Whether the path still names this very file."""

    def is_gone(self) -> bool:
        """Whether the path names nothing at all."""

    def close(self) -> None:
        """Close the file."""


class KernelFile:
    """A regular file, read without a buffer of our own. The descriptor is closed in whatever this process executes."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises OSError, also for what is no regular file: a FIFO would keep us waiting for a writer."""
        self._path = path
        self._file = io.FileIO(path, opener=_open_regular)
        self._inode = _inode(os.fstat(self._file.fileno()))

    def read(self, size: int, /) -> bytes:
        """Make one call of the kernel's; raises OSError."""
        chunk = self._file.read(size)
        if chunk is None:  # so `FileIO` says EAGAIN, and the end of the list it is not
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return chunk

    def rewind(self) -> None:
        """Seek to the beginning."""
        self._file.seek(0)

    def is_current(self) -> bool:
        """Whether the path still names this inode: it can be no other file's as long as this one is open."""
        try:
            return _inode(self._path.stat()) == self._inode
        except OSError:
            return False

    def is_gone(self) -> bool:
        """Whether there is no such path."""
        try:
            self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close the descriptor."""
        self._file.close()


def open_raw(path: Path) -> RawFile:
    """Open `path` to be read. Raises OSError."""
    return KernelFile(path)


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # which regular files take no notice of
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # of a folder `FileIO` says itself what it is
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file")


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
