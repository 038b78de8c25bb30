"""The blocks of a listing, packed: as objects they would take four times the memory. Pure: no I/O, no clock."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice
from operator import lt
from typing import Final, NamedTuple

from hsm_shipper.worker.digest_table import DigestTable


class Extent(NamedTuple):
    """What one block, or several that follow each other, have of a listing."""

    line_count: int
    first_place: int
    """Packed place of the first line."""
    last_place: int
    """And of the last one; a lesser one than the first where the places of the lines do not grow from line to line."""


UNSORTED_PLACES: Final = (1, 0)


class BlockRun(NamedTuple):
    """Blocks that followed each other in a reading, and whose lines were all known."""

    sha256: bytes
    size_bytes: int
    blocks: array[int]
    extent: Extent


_GROWTH_BLOCKS: Final = 256


class BlockTable:
    """The blocks by number, from 1 on: some 70 bytes each, and 350,000 lines have 17,500.

    `NOWHERE` is where lines are that are in no block. The number of a block in which no line is left is given to
    another one, but not before the next `begin`.
    """

    NOWHERE: Final = DigestTable.NONE

    def __init__(self) -> None:
        self._numbers = DigestTable()  # by half of their SHA-256: two that agree in it are not to be found either
        self._known = bytearray(1)  # 1 for each that is known by its SHA-256: every line of it is known, and in it
        self._left = bytearray(1)  # 1 for each that some line has left
        self._reading = 0
        self._seen_in = array("I", [0])  # the last reading that held it
        self._last_seen = self.NOWHERE
        self.members = array("I", [0])
        """How many known lines are in it: none of them is in another."""
        # Where those are in the index of lines, be it among others: in so many slots from that one on.
        self._first_slot = array("I", [0])
        self._slot_span = array("I", [0])
        self._line_count = array("I", [0])
        self._first_place = array("Q", [0])
        self._last_place = array("Q", [0])
        self._free = array("I")
        self.runs: list[BlockRun] = []
        """The runs of blocks of this reading so far, in the order of the listing."""

    # While a listing is read

    def begin(self) -> list[BlockRun]:
        """Begin a reading: nothing was seen in it yet. Returns the runs of the last one whose lines are known still."""
        last_runs, self.runs = list(filter(self._is_known, self.runs)), []
        # Nobody names these any more.
        free = [block for block, members in enumerate(self.members) if not members and block != self.NOWHERE]
        self._free = array("I", reversed(free))  # the first is taken first
        self._reading += 1
        self._seen_in[self.NOWHERE] = self._reading
        return last_runs

    def see(self, sha256: bytes) -> int:
        """The known block with this SHA-256: it is seen from now on. `NOWHERE` if there is none."""
        block = self._numbers.get(sha256[:16], self._last_seen + 1)
        if block:
            self._last_seen = block
            self._seen_in[block] = self._reading
        return block

    def see_run(self, run: BlockRun) -> None:
        """These blocks are seen from now on; the run is one of those that `begin` has returned.

        A line that has left one of them meanwhile was seen in another.
        """
        reading, seen_in = self._reading, self._seen_in
        for block in run.blocks:
            seen_in[block] = reading
        self.runs.append(run)

    def _is_known(self, run: BlockRun) -> bool:
        return all(map(self._known.__getitem__, run.blocks))

    def is_seen(self, block: int) -> bool:
        """Whether this reading has held it so far."""
        return self._seen_in[block] == self._reading

    def unseen(self) -> list[int]:
        """The blocks that hold known lines, and that this reading has not held so far."""
        reading = self._reading
        columns = zip(self._seen_in, self.members, strict=True)
        return [block for block, (seen_in, members) in enumerate(columns) if members and seen_in != reading]

    def set_extent(self, block: int, extent: Extent) -> None:
        """Note what it has of a listing."""
        self._line_count[block], self._first_place[block], self._last_place[block] = extent

    def extent(self, blocks: Iterable[int]) -> Extent:
        """What blocks that follow each other have of a listing."""
        counts = map(self._line_count.__getitem__, blocks)
        firsts = list(map(self._first_place.__getitem__, blocks))
        lasts = list(map(self._last_place.__getitem__, blocks))
        ascend = all(map(lt, lasts, islice(firsts, 1, None))) and not any(map(lt, lasts, firsts))
        return Extent(sum(counts), *((firsts[0], lasts[-1]) if ascend else UNSORTED_PLACES))

    # When lines come into blocks, and leave them

    def take(self) -> int:
        """A block that is seen, and of which nothing else is known yet."""
        if not self._free:
            self._grow()
        block = self._free.pop()
        self._left[block] = 0
        self._seen_in[block] = self._reading
        return block

    def _grow(self) -> None:
        first = len(self.members)
        for flags in (self._known, self._left):
            flags.extend(bytes(_GROWTH_BLOCKS))
        slots = (self._first_slot, self._slot_span)
        extents = (self._line_count, self._first_place, self._last_place)
        for column in (self._seen_in, self.members, *slots, *extents):
            column.extend([0] * _GROWTH_BLOCKS)
        self._free.extend(reversed(range(first, first + _GROWTH_BLOCKS)))

    def know(self, block: int, sha256: bytes) -> None:
        """Have a block found by its SHA-256, all lines of which are known and came into it."""
        if self._numbers.add(sha256[:16], block):
            self._known[block] = 1

    def hold(self, block: int, count: int, first_slot: int, last_slot: int) -> None:
        """So many known lines more came into it, which are in these slots."""
        if block == self.NOWHERE:
            return
        if self.members[block]:
            last_slot = max(last_slot, self.slots(block)[-1])
            first_slot = min(first_slot, self._first_slot[block])
        self.members[block] += count
        self._first_slot[block], self._slot_span[block] = first_slot, last_slot - first_slot + 1

    def leave(self, block: int, count: int) -> None:
        """So many lines have left it, or one needs a look from now on: its SHA-256 tells nothing more."""
        if block == self.NOWHERE:
            return
        if self._known[block]:
            self._numbers.free([block])
            self._known[block] = 0
        self._left[block] = 1
        self.members[block] -= count

    def was_left(self, block: int) -> bool:
        """Whether some line has left it."""
        return bool(self._left[block])

    def slots(self, block: int) -> range:
        """Slots that hold all known lines that are in it."""
        return range(self._first_slot[block], self._first_slot[block] + self._slot_span[block])
