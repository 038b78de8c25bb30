"""Blocks of a listing: some twenty lines that stand together, known as a whole by one SHA-256. Pure: no I/O, no clock.

The content decides where a block ends, so that a line that comes, goes or changes its length moves no other cut than
those of its own block. A block ends before a line whose record index is a multiple of twenty: in the kernel's listing,
in which the index grows by one from record to record, that is every twentieth line; where most records are gone, still
one line of twenty. Two bounds keep that reasonable for listings that look otherwise.
"""

from __future__ import annotations

# Some 4 lines: where every line could end a block, a block is not to cost more than its lines do.
BLOCK_MIN_BYTES = 1024
# Some 35 lines. A listing without such a line is cut all the same, at the next line.
BLOCK_MAX_BYTES = 8 * 1024
# Blocks are known in runs of so many as well: most of a listing stays what it is, and one SHA-256 says so of a run.
RUN_BYTES = 64 * 1024

# The end of `idx=CAT/REC]` and what follows it; before it is the digit of the tens.
_CUT = b"0] fid=["
_EVEN = b"02468"


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
