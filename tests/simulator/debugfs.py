"""The `actions` of an MDT as debugfs shows it, in memory, for an `ActionsFile` to open: what a plain file cannot do.

As seen on Lustre 2.17.57: the listing is rendered whole at the first read from the beginning, into a buffer that
doubles from 4 KiB with a scan of the llog for each size, and stays with the descriptor. A descriptor that was open at
an umount gives EIO for ever, and what is mounted later is another file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

_SMALLEST_BUFFER_BYTES: Final = 4096


def error(number: int) -> OSError:
    """What a system call raises."""
    return OSError(number, os.strerror(number))


class Listing:
    """What one rendering gives: some content, then its end or an error; `at_end` happens before the reader sees it.

    `between` happens before every read() but the first.
    """

    def __init__(
        self,
        content: bytes,
        error_number: int | None = None,
        at_end: Callable[[], object] | None = None,
        *,
        between: Callable[[], object] | None = None,
    ) -> None:
        self.content = content
        self.error_number = error_number
        self.at_end = at_end
        self.between = between


class DebugfsActions:
    """The file of one MDT on one server, and what became of it. Not mounted at first."""

    def __init__(self, render: Callable[[], Listing]) -> None:
        """`render` is called for each listing; it may raise OSError, as ENOENT before the llog is attached."""
        self.render = render
        self.opens = 0
        """How often it was opened."""
        self.scans = 0
        """How often the llog was gone through."""
        self.open_files: list[DebugfsFile] = []
        """Each holds the kernel's module."""
        self._mounts = 0
        self._is_mounted = False

    def mount(self) -> None:
        """The file appears."""
        self._mounts += 1
        self._is_mounted = True

    def unmount(self) -> None:
        """The file goes."""
        self._is_mounted = False

    @property
    def inode(self) -> int | None:
        """What the path names: another at each mount, None without one."""
        return self._mounts if self._is_mounted else None

    def open(self, path: Path) -> DebugfsFile:
        """As an opener of an `ActionsFile`."""
        if self.inode is None:
            raise error(errno.ENOENT)
        self.opens += 1
        file = DebugfsFile(self, self.inode)
        self.open_files.append(file)
        return file


class DebugfsFile:
    """An open file."""

    def __init__(self, actions: DebugfsActions, inode: int) -> None:
        self._actions = actions
        self._inode = inode
        self.buffer_bytes = _SMALLEST_BUFFER_BYTES
        """The kernel's, for as long as the file is open."""
        self._listing: Listing | None = None
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """The next part of the listing, which is rendered at the first one."""
        if self._listing is not None and self._listing.between is not None:
            self._listing.between()
        if not self.is_current():
            raise error(errno.EIO)
        if self._listing is None:
            self._listing = self._rendered()
        chunk = self._listing.content[self._at : self._at + size]
        self._at += len(chunk)
        if not chunk:
            if self._listing.at_end is not None:
                self._listing.at_end()
            if self._listing.error_number is not None:
                raise error(self._listing.error_number)
        return chunk

    def _rendered(self) -> Listing:
        listing = self._actions.render()
        self._actions.scans += 1
        while self.buffer_bytes < len(listing.content):
            self.buffer_bytes *= 2
            self._actions.scans += 1
        return listing

    def rewind(self) -> None:
        """Nothing but a position: the next read renders."""
        self._listing, self._at = None, 0

    def is_current(self) -> bool:
        """Whether it was opened at this mount."""
        return self._inode == self._actions.inode

    def is_gone(self) -> bool:
        """Whether nothing is mounted."""
        return self._actions.inode is None

    def close(self) -> None:
        """Let go of the module."""
        self._actions.open_files.remove(self)
