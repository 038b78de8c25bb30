"""New lines of a listing that wait for its end: purges go first in a poll. Pure: no I/O, no clock."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import msgspec

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import line_digest
from hsm_shipper.contract.kernel_line import ActionRecord, parse_line

# Held lines of about a kilobyte each; more than that are packed.
HELD_OPEN_MAX = 4_000


class NewLine(msgspec.Struct, frozen=True, gc=False):
    """A line whose MD5 is not known, with its parse."""

    line: bytes
    digest: bytes
    record: ActionRecord


HeldLine = tuple[NewLine, ActionState | None]
"""A new line, and the same action as it is known in its place; None for what is not there yet."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, ActionState | None]]).decode


class HeldLines:
    """New lines kept until the end of the file; many of them packed: a purge turns every line of a long list new."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._open: list[HeldLine] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, lines: Iterable[HeldLine]) -> None:
        """Keep some more."""
        before = len(self._open)
        self._open.extend(lines)
        self._count += len(self._open) - before
        if len(self._open) >= HELD_OPEN_MAX:
            # Without MD5 and parse, which the line tells again: that takes less than half of the memory.
            lines_and_befores = [(new.line, before) for new, before in self._open]
            self._packed.append(zlib.compress(_encode(lines_and_befores), level=1))
            self._open = []

    def __iter__(self) -> Iterator[HeldLine]:
        for packed in self._packed:
            for line, before in _decode(zlib.decompress(packed)):
                record = parse_line(line)
                assert record is not None, "only what was understood is held"
                yield NewLine(line, line_digest(line), record), before
        yield from self._open
