"""Reads an MDT's actions file: whole lines, chunk by chunk, and how the reading ended.

The file is a debugfs seq_file: no useful size or mtime, rendered anew at the first read() from its beginning, a
snapshot from then on. So it is read once a poll in large chunks to its end, on a descriptor that is held (`held_file`
tells why); any read() may fail (an MDT that starts or stops gives ENOENT and EIO at the first, a middle or the last
one), and a list cut short may end like a good one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hsm_shipper.lustre.held_file import HeldFile
from hsm_shipper.lustre.kernel_file import RawFile, open_raw

# Some 400 of the kernel's lines of 230 to 240 bytes. From 128 KiB on malloc gives memory back at each free(), and gets
# it anew page by page: that takes three times as long as to copy what is in it.
CHUNK_BYTES = 96 * 1024
# The kernel's lines have some 240 bytes. One far beyond that is damage, and must not take our memory.
LINE_MAX_BYTES = 1024 * 1024


class Reading:
    """One reading of the file: iterate it once, for lines or by `chunks` for bytes, then look how it ended.

    Three layers: what the calls of read() give, chunks of whole lines, lists of lines.
    """

    def __init__(self, file: HeldFile) -> None:
        self._file = file
        self.taken_at = time.time()
        """When the snapshot was taken: the end of the first read(), seconds since the epoch."""
        self.lines = 0
        """Lines so far; whoever takes chunks counts them in."""
        self.fault: str | None = "it was not read to its end"
        """Why the reading is incomplete; None for one that ended as a good one does."""
        self.broke_off_held = False
        """Whether a descriptor held since an earlier reading failed behind its first read(): another may be good."""

    def __iter__(self) -> Iterator[list[bytes]]:
        """Lists of lines, without their newlines."""
        for chunk in self.chunks():
            lines = chunk.split(b"\n")
            lines.pop()
            self.lines += len(lines)
            yield lines

    def chunks(self) -> Iterator[bytes]:
        """Whole lines with their newlines, about `CHUNK_BYTES`; an overlong line is cut to `LINE_MAX_BYTES`."""
        rest = b""
        for read in self._reads():
            end = read.rfind(b"\n") + 1
            if not end:
                # An overlong line is known by its first part, wherever the reads happen to end in it.
                rest = (rest + read)[:LINE_MAX_BYTES]
                continue
            chunk = b"".join((rest, memoryview(read)[:end]))
            if len(rest) + len(read) > LINE_MAX_BYTES:
                line_end = chunk.index(b"\n")
                chunk = chunk[: min(line_end, LINE_MAX_BYTES)] + chunk[line_end:]
            rest = read[end:]
            yield chunk
        if rest and self.fault is None:
            self.fault = f"its last line has no newline ({len(rest)} bytes)"

    def _reads(self) -> Iterator[bytes]:
        """What each read() gives, to the end of the file."""
        turn = self._file.begin()
        first = self._file.read_held(CHUNK_BYTES)
        was_held = first is not None
        try:
            if first is None:
                self._file.open()
        except OSError as error:
            self.fault = f"cannot open it: {error.strerror}"
            return
        try:
            read = self._file.read(turn, CHUNK_BYTES) if first is None else first
            self.taken_at = time.time()
            while read:
                yield read
                read = self._file.read(turn, CHUNK_BYTES)
            self.fault = None
        except OSError as error:
            self.fault = f"cannot read it after {self.lines} lines: {error.strerror}"
            self.broke_off_held = was_held
        finally:
            self._file.end(turn, whole=self.fault is None)


class ActionsFile:
    """The actions file of one MDT. With `hold` it stays open between readings, until `close`."""

    def __init__(self, path: Path, opener: Callable[[Path], RawFile] = open_raw, *, hold: bool = False) -> None:
        self.path = path
        self._file = HeldFile(path, opener, hold)

    @property
    def read_s(self) -> float:
        """Seconds that all readings together have spent in the kernel."""
        return self._file.read_s

    def read(self) -> Reading:
        """Begin a reading; nothing is opened before it is iterated."""
        return Reading(self._file)

    def close_if_gone(self) -> None:
        """Close what is held if the path is gone, from any thread: an open file holds the kernel's module."""
        self._file.close_if_gone()

    def close(self) -> None:
        """Close what is held; another reading opens it again."""
        self._file.close()
