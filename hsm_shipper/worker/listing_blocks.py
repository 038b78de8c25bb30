"""Blocks of a listing: some twenty lines that stand together, known as a whole by one SHA-256. Pure: no I/O, no clock.

The content decides where a block ends, so that a line that comes, goes or changes its length moves no other cut than
those of its own block. A block ends before a line whose record index is a multiple of twenty: in the kernel's listing,
in which the index grows by one from record to record, that is every twentieth line; where most records are gone, still
one line of twenty. Two bounds keep that reasonable for listings that look otherwise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

# Some 4 lines: where every line could end a block, a block is not to cost more than its lines do.
BLOCK_MIN_BYTES = 1024
# Some 35 lines. A listing without such a line is cut all the same, at the next line.
BLOCK_MAX_BYTES = 8 * 1024
# Blocks are known in runs of so many as well: most of a listing stays what it is, and one SHA-256 says so of a run.
RUN_BYTES = 32 * 1024

# The end of `idx=CAT/REC]` and what follows it; before it is the digit of the tens.
_CUT = b"0] fid=["
_EVEN = b"02468"


class Block(msgspec.Struct, gc=False, eq=False):
    """Some lines that stood together in a listing: of 350,000 lines there are 17,500, of some 300 bytes each."""

    sha256: bytes = b""
    """Of its bytes, with the newline of each line; empty once it is known no more."""
    line_count: int = 0
    seen_in: int = 0
    """The number of the last reading that held it."""
    members: int = 0
    """How many known lines are in it: none of them is in another."""
    first_place: int = 0
    """Packed place of its first line; `UNSORTED` where the places of its lines do not grow from line to line."""
    span: int = 0
    """From its first place to that of its last line."""
    first_slot: int = 0
    slot_span: int = 0
    """Where its lines are in the index of lines, be it among others: in so many slots from that one on."""

    def hold(self, count: int, first_slot: int, last_slot: int) -> None:
        """So many known lines more, in these slots, came into it."""
        if self.members:
            last_slot = max(last_slot, self.first_slot + self.slot_span - 1)
            first_slot = min(first_slot, self.first_slot)
        self.members += count
        self.first_slot, self.slot_span = first_slot, last_slot - first_slot + 1

    def slots(self) -> range:
        """Slots that hold all known lines that are in it."""
        return range(self.first_slot, self.first_slot + self.slot_span)


UNSORTED: Final = -1


class BlockRun(NamedTuple):
    """Blocks that followed each other in the last reading, and whose lines were all known."""

    sha256: bytes
    size_bytes: int
    blocks: list[Block]


def block_end(listing: bytes, begin: int) -> int:
    """Where the block ends that begins at `begin`: behind a newline; -1 where more of the listing has to tell."""
    limit = begin + BLOCK_MAX_BYTES
    mark = listing.find(_CUT, begin + BLOCK_MIN_BYTES, limit)
    while mark >= 0:
        if listing[mark - 1] in _EVEN:
            end = listing.rfind(b"\n", begin, mark) + 1
            if end:
                return end
        mark = listing.find(_CUT, mark + 1, limit)
    if len(listing) < limit:
        return -1
    return listing.find(b"\n", limit - 1) + 1 or -1
