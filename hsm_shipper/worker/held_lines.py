"""New lines of a listing that wait for its end: purges go first in a poll. Pure: no I/O, no clock."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from hashlib import md5
from typing import NamedTuple

from hsm_shipper.contract.kernel_line import ActionRecord, parse_line

# Held lines of some 650 bytes each, parsed; more than that are packed.
HELD_OPEN_MAX = 10_000


class NewLine(NamedTuple):
    """A line whose MD5 is not known, with its parse."""

    line: bytes
    digest: bytes
    record: ActionRecord


class HeldLines:
    """New lines kept until the end of the file; many of them packed: a purge turns every line of a long list new."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
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
            self._packed.append(zlib.compress(b"\n".join(new.line for new in self._open), level=1))
            self._open = []

    def __iter__(self) -> Iterator[NewLine]:
        for packed in self._packed:
            yield from map(_parsed, zlib.decompress(packed).split(b"\n"))
        yield from self._open


def _parsed(line: bytes) -> NewLine:
    record = parse_line(line)
    assert record is not None, "only what was understood is held"
    return NewLine(line, md5(line, usedforsecurity=False).digest(), record)
