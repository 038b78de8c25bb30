"""New lines of a listing that wait for its end: purges go first in a poll. Pure: no I/O, no clock."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hsm_shipper.contract.kernel_line import ActionRecord, parse_line

# Held lines of some 650 bytes each, parsed; more than that are packed.
HELD_OPEN_MAX = 5_000


class NewLine(NamedTuple):
    """A line whose MD5 is not known, with its parse."""

    line: bytes
    digest: bytes
    record: ActionRecord


class HeldLines:
    """New lines kept until the end of the file; many of them packed: a purge turns every line of a long list new."""

    def __init__(self) -> None:
        self._packed: list[tuple[bytes, bytes]] = []  # the lines, and their MD5s one behind the other
        self._open: list[NewLine] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, lines: Iterable[NewLine]) -> None:
        """Keep some more."""
        before = len(self._open)
        self._open.extend(lines)
        self._count += len(self._open) - before
        if len(self._open) >= HELD_OPEN_MAX:
            together = zlib.compress(b"\n".join(new.line for new in self._open), level=1)
            self._packed.append((together, b"".join(new.digest for new in self._open)))
            self._open = []

    def __iter__(self) -> Iterator[NewLine]:
        for together, digests in self._packed:
            for at, line in enumerate(zlib.decompress(together).split(b"\n")):
                record = parse_line(line)
                assert record is not None, "only what was understood is held"
                yield NewLine(line, digests[16 * at : 16 * at + 16], record)
        yield from self._open
