"""Reads an MDT's actions file: whole lines, chunk by chunk, and how the reading ended.

The file is a debugfs seq_file: no useful size or mtime, rendered anew at the first read() of every open, a snapshot
from then on. So it is opened once a poll and read in large chunks to its end; any read() may fail (an MDT that
starts or stops gives ENOENT and EIO at the first, a middle or the last one), and a list cut short may end like a
good one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

# A chunk is also what a first ship appends at once: some 800 of the kernel's lines of 230 to 240 bytes.
CHUNK_BYTES = 192 * 1024
# The kernel's lines have some 240 bytes. One far beyond that is damage, and must not take our memory.
LINE_MAX_BYTES = 1024 * 1024


class RawFile(Protocol):
    """What the reader needs of an open file (`io.FileIO` has it; tests inject faults here)."""

    def read(self, size: int, /) -> bytes | None:
        """Up to `size` bytes, empty at the end of the file; raises OSError."""

    def close(self) -> None:
        """Close the file."""


def open_raw(path: Path) -> RawFile:
    """Open `path` without a buffer of our own: every read() is one of the kernel's."""
    return path.open("rb", buffering=0)


class Reading:
    """One reading of the file: iterate it once for lists of lines (without newlines), then look how it ended."""

    def __init__(self, path: Path, opener: Callable[[Path], RawFile]) -> None:
        self._path = path
        self._opener = opener
        self.taken_at = time.time()
        """When the snapshot was taken: the end of the first read(), seconds since the epoch."""
        self.lines = 0
        self.fault: str | None = "it was not read to its end"
        """Why the reading is incomplete; None for one that ended as a good one does."""

    def __iter__(self) -> Iterator[list[bytes]]:
        try:
            raw = self._opener(self._path)
        except OSError as error:
            self.fault = f"cannot open it: {error.strerror}"
            return
        try:
            for lines in self._chunks(raw):
                self.lines += len(lines)
                yield lines
        except OSError as error:
            self.fault = f"cannot read it after {self.lines} lines: {error.strerror}"
        finally:
            raw.close()

    def _chunks(self, raw: RawFile) -> Iterator[list[bytes]]:
        rest = b""
        first = True
        while True:
            chunk = raw.read(CHUNK_BYTES)
            if first:
                self.taken_at, first = time.time(), False
            if not chunk:
                break
            lines = (rest + chunk if rest else chunk).split(b"\n")
            # An overlong line is known by its first part, wherever the chunks happen to end in it.
            rest = lines.pop()[:LINE_MAX_BYTES]
            if lines and len(lines[0]) > LINE_MAX_BYTES:
                lines[0] = lines[0][:LINE_MAX_BYTES]
            if lines:
                yield lines
        self.fault = f"its last line has no newline ({len(rest)} bytes)" if rest else None


class ActionsFile:
    """The actions file of one MDT."""

    def __init__(self, path: Path, opener: Callable[[Path], RawFile] = open_raw) -> None:
        self.path = path
        self._opener = opener

    def read(self) -> Reading:
        """Begin a reading; nothing is opened before it is iterated."""
        return Reading(self.path, self._opener)
