"""Blocks of a listing: some ten lines that stand together, known as a whole by one SHA-256. Pure: no I/O, no clock.

The content decides where a block ends, so that a line that comes, goes or changes its length moves no other cut than
those of its own block. A block ends before a line whose record index is a multiple of ten: in the kernel's listing, in
which the index grows by one from record to record, that is every tenth line; where most records are gone, still one
line of ten. Two bounds keep that reasonable for listings that look otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

# Some 4 lines: where every line could end a block, a block is not to cost more than its lines do.
BLOCK_MIN_BYTES = 1024
# Some 35 lines. A listing without such a line is cut all the same, at the next line.
BLOCK_MAX_BYTES = 8 * 1024

# The end of `idx=CAT/REC]` and what follows it.
_CUT = b"0] fid=["


class Block:
    """Some lines that stood together in a listing."""

    __slots__ = (
        "first_place", "is_intact", "is_sorted", "last_place", "line_count", "members", "next_size_bytes", "seen_in",
        "sha256",
    )  # fmt: skip

    def __init__(self, sha256: bytes = b"", line_count: int = 0, seen_in: int = 0) -> None:
        self.sha256 = sha256
        """Of its bytes, with the newline of each line."""
        self.line_count = line_count
        self.seen_in = seen_in
        """The number of the last reading that held it."""
        self.next_size_bytes = 0
        """How long the block was that followed it in the last reading; 0 where its end is to be looked for."""
        self.members = 0
        """How many known lines are in it and in no other block."""
        self.is_intact = True
        """Whether all lines that were ever members still are."""
        self.first_place = self.last_place = 0
        self.is_sorted = True
        """Whether the places of its lines only grow."""


class KnownChunk(NamedTuple):
    """Some lines that were read at once in the last reading, in which everything was known."""

    sha256: bytes
    blocks: list[Block]
    """Those that ended in it."""
    rest_bytes: int
    """How much of it, at its end, is the beginning of a block that did not end in it."""
    last_line: bytes | None
    """The last line of the listing up to there."""


def block_end(listing: bytes, begin: int) -> int:
    """Where the block ends that begins at `begin`: behind a newline; -1 where more of the listing has to tell."""
    limit = begin + BLOCK_MAX_BYTES
    mark = listing.find(_CUT, begin + BLOCK_MIN_BYTES, limit)
    if mark >= 0:
        end = listing.rfind(b"\n", begin, mark) + 1
        if end:
            return end
    if len(listing) < limit:
        return -1
    return listing.find(b"\n", limit - 1) + 1 or -1
