"""One actions file, kept open from one reading to the next.

At the first read() of a fresh descriptor the kernel renders the list into a buffer that doubles from 4 KiB until the
list fits, and scans the llog anew for each size. The buffer stays with the descriptor: where that is kept and sought to
its beginning, one scan is left, a third of the work (seq_file; seen on Lustre 2.17.57). Each first read() is a new
snapshot. What an open descriptor costs is that buffer, the list's size rounded up to a power of two, and a reference on
the kernel's module, which nobody can unload meanwhile. After an umount it gives EIO for ever, whatever is mounted
later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakSet

from hsm_shipper.lustre.kernel_file import RawFile

# A list that is so many times shorter than it was on this descriptor does not need the kernel's buffer any more...
_SHRUNK = 4
# ... if that is worth a fresh open.
_LARGE_BUFFER_BYTES = 1024 * 1024


class HeldFile:
    """The descriptor, and who may read from it: one reading at a time, and `close_if_gone` from any thread."""

    def __init__(self, path: Path, opener: Callable[[Path], RawFile], hold: bool) -> None:
        self._path = path
        self._opener = opener
        self._hold = hold
        self._lock = threading.Lock()
        self._raw: RawFile | None = None
        self._turn = 0
        self._bytes = 0
        self._largest_bytes = 0
        self.read_s = 0.0
        """Seconds in open(), lseek() and read() since this was made."""
        _files.add(self)

    def begin(self) -> int:
        """Begin a reading: its number. What an earlier one has not read by now it never will."""
        self._turn += 1
        self._bytes = 0
        return self._turn

    def read_held(self, size: int) -> bytes | None:
        """The first `size` bytes from the descriptor that is held; None if it gives none, and then nothing is held.

        A list that seems to be empty is not believed. All live actions would be purged if a kernel did not begin anew
        after lseek(), which has been seen of some releases only, and an empty list costs nothing to open again.
        """
        with self._in_kernel():
            if self._raw is None:
                return None
            with contextlib.suppress(OSError):
                if self._raw.is_current():
                    self._raw.rewind()
                    if chunk := self._raw.read(size):
                        return self._counted(chunk)
            self._close()
            return None

    def open(self) -> None:
        """Open the file. Raises OSError."""
        with self._in_kernel():
            self._raw, self._largest_bytes = self._opener(self._path), 0

    def read(self, turn: int, size: int) -> bytes:
        """The next `size` bytes of that reading. Raises OSError, after which nothing is held."""
        with self._in_kernel():
            if self._raw is None or turn != self._turn:
                raise OSError(errno.ENOENT, "it was closed, for it is gone")
            try:
                return self._counted(self._raw.read(size))
            except OSError:
                self._close()
                raise

    def end(self, turn: int, *, whole: bool) -> None:
        """End a reading; `whole` says whether it came to the end of the list."""
        with self._lock:
            if turn != self._turn or self._raw is None:
                return
            self._largest_bytes = max(self._largest_bytes, self._bytes)
            has_shrunk = whole and self._largest_bytes > max(_LARGE_BUFFER_BYTES, _SHRUNK * self._bytes)
            if has_shrunk or not self._hold:
                self._close()

    def close_if_gone(self) -> None:
        """Close the descriptor if its path is gone, with the rest of a reading that is under way."""
        if self._lock.acquire(blocking=False):  # a read() that the kernel is at ends by itself
            try:
                if self._raw is not None and self._raw.is_gone():
                    self._close()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock:
            self._close()

    def forked(self) -> None:
        """Let go of what the parent holds, whose threads are not here."""
        self._lock = threading.Lock()
        self._close()

    def _close(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _counted(self, chunk: bytes) -> bytes:
        self._bytes += len(chunk)
        return chunk

    @contextlib.contextmanager
    def _in_kernel(self) -> Iterator[None]:
        with self._lock:
            begun = time.perf_counter()
            try:
                yield
            finally:
                self.read_s += time.perf_counter() - begun


# A child would share the offset with us, and hold the module after we have let go.
_files: WeakSet[HeldFile] = WeakSet()


def _forked() -> None:
    for file in _files:
        file.forked()


os.register_at_fork(after_in_child=_forked)
