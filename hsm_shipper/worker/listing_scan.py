"""The hot loop: every line of every poll passes here, most of them unlooked at. Pure: no I/O, no clock.

As long as a listing is what it was in the last reading, whole chunks of it are known by their SHA-256. From the first
difference on it is taken block by block (`listing_blocks`): of a block whose SHA-256 is known, every line is known and
there. Only the lines of other blocks are looked at one by one, by their MD5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import md5, sha256
from itertools import islice, pairwise
from operator import lt

from hsm_shipper.contract.action_state import UNKNOWN_ENTRY, ActionState
from hsm_shipper.contract.kernel_line import parse_line, readable_place
from hsm_shipper.contract.stream_ids import milliseconds_of, pack_id
from hsm_shipper.worker.held_lines import NewLine
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_blocks import Block, KnownChunk, block_end

# A listing of so few lines may be sorted by chance.
FEW_LINES = 10


def were_sorted(live: Iterable[ActionState]) -> bool:
    """Whether these live actions come from listings that were sorted by place, as far as their entries tell.

    What one script appends has one millisecond, and the order of its lines in the listing.
    """
    told = sorted((pack_id(action.entry), action.place) for action in live if action.entry != UNKNOWN_ENTRY)
    return all(
        place < next_place or milliseconds_of(entry) != milliseconds_of(next_entry)
        for (entry, place), (next_entry, next_place) in pairwise(told)
    )


class ListingScan:
    """One reading against what is known: which lines are new, which places are still there."""

    def __init__(self, index: LineIndex, listings_are_sorted: bool = True) -> None:
        """`listings_are_sorted` is what the one before this says."""
        self._index = index
        self._last_chunks, index.chunks = index.chunks, []
        self._is_as_before = True  # every chunk so far was what it was in the last reading
        self._is_all_known = True  # every line so far
        self._rest = b""  # the beginning of a block that has not ended yet
        self._last_line: bytes | None = None
        self._before = index.listing_begin  # the block before the next one
        self._last_place = -1
        self._ascends = True  # the places of all lines so far
        # Blocks with new lines, and the MD5s of those, one behind the other.
        self._new_blocks: list[tuple[Block, bytes]] = []
        self.listings_are_sorted = listings_are_sorted
        """Whether listings are sorted by place, as the kernel's are, as far as `is_sorted` was asked."""
        self.known_at_begin = len(index)
        self.lines = 0
        self.not_understood = 0
        self.example: bytes | None = None
        """The first line that was not understood."""
        self._present: set[int] = set()  # places that hold something new, or something not understood
        index.begin()

    def new_lines(self, chunks: Iterable[bytes]) -> Iterator[list[NewLine]]:
        """Run a listing past what is known, some whole lines at a time; yields those that are new and understood."""
        for chunk in chunks:
            digest = sha256(chunk).digest() if self._is_all_known else b""
            if not self.known_at_begin:
                yield self._take_first(chunk, digest)
            elif not self._see_chunk(chunk, digest):
                yield self._take(chunk, digest)
        yield self._take_rest()

    @property
    def lines_taken(self) -> int:
        """Lines so far, with those whose block has not ended yet."""
        return self.lines + self._rest.count(b"\n")

    def keep_blocks(self) -> None:
        """Have blocks that held new lines known from now on, where all of those lines are known by now."""
        for block, digests in self._new_blocks:
            self._index.keep_block(block, [digests[at : at + 16] for at in range(0, len(digests), 16)])
        self._new_blocks = []

    def claim(self, lines: Iterable[NewLine]) -> list[NewLine]:
        """Mark the places of new lines as taken; return the lines, but for further ones of a place that was.

        Those are not understood: the kernel gives each record one place.
        """
        claimed = []
        for new in lines:
            if new.record.place in self._present:
                self.puzzle(new.line)
            else:
                self._present.add(new.record.place)
                claimed.append(new)
        return claimed

    def puzzle(self, line: bytes) -> None:
        """Count a line that is not understood; where its place can be read, something is there."""
        self.not_understood += 1
        if self.example is None:
            self.example = line
        place = readable_place(line)
        if place is not None:
            self._present.add(place)

    def last_place(self) -> int:
        """Packed place of the last line read, -1 without one: nothing lies beyond it in a listing that is sorted."""
        if self._last_line is None:
            return -1
        record = parse_line(self._last_line)
        place = record.place if record is not None else readable_place(self._last_line)
        return -1 if place is None else place

    def is_sorted(self) -> bool:
        """Whether this is a listing that is sorted by place: a short one may be so by chance, if others were not."""
        if self.listings_are_sorted or self.lines > FEW_LINES:
            self.listings_are_sorted = self._ascends
        return self.listings_are_sorted

    def missing(self) -> set[int]:
        """Places of known actions whose place the listing does not hold."""
        return self._index.unseen() - self._present

    def _take_first(self, lines: bytes, digest: bytes) -> list[NewLine]:
        """Lines of a listing of which nothing is known: they need no blocks."""
        new: list[NewLine] = []
        self._pass([self._look_at(lines, digest, new)])
        self._last_line = _last_line(lines)
        return new

    def _see_chunk(self, chunk: bytes, digest: bytes) -> bool:
        """Whether the listing is up to the end of this chunk what it was in the last reading: there is nothing new."""
        at = len(self._index.chunks)
        known = self._last_chunks[at] if self._is_as_before and at < len(self._last_chunks) else None
        if known is None or known.sha256 != digest or not self._index.see_blocks(known.blocks):
            self._is_as_before = False
            return False
        self._index.chunks.append(known)
        self._pass(known.blocks)
        self._rest = chunk[len(chunk) - known.rest_bytes :]
        self._last_line = known.last_line
        return True

    def _take(self, chunk: bytes, digest: bytes) -> list[NewLine]:
        """Take all blocks that end in this chunk: what is new in them."""
        listing = self._rest + chunk
        new: list[NewLine] = []
        blocks, end = self._blocks_of(listing, new, is_end=False)
        self._rest = listing[end:]
        if self._is_all_known and len(self._rest) <= len(chunk):
            self._index.chunks.append(KnownChunk(digest, blocks, len(self._rest), self._last_line))
        return new

    def _take_rest(self) -> list[NewLine]:
        new: list[NewLine] = []
        self._blocks_of(self._rest, new, is_end=True)
        self._rest = b""
        return new

    def _blocks_of(self, listing: bytes, new: list[NewLine], *, is_end: bool) -> tuple[list[Block], int]:
        """All blocks that end in `listing`, and where the last of them does; new lines of theirs are added to `new`."""
        blocks = []
        begin = 0
        with memoryview(listing) as view:
            while begin < len(listing):
                # Most often what follows is what followed the same block in the last reading, and as long.
                block, end = None, begin + self._before.next_size_bytes
                if begin < end <= len(listing):
                    digest = sha256(view[begin:end]).digest()
                    block = self._index.see_block(digest)
                if block is None:
                    found = block_end(listing, begin)
                    if found < 0 and not is_end:
                        break
                    if found != end:
                        end = found if found >= 0 else len(listing)
                        digest = sha256(view[begin:end]).digest()
                        block = self._index.see_block(digest)
                    if block is None:
                        block = self._look_at(listing[begin:end], digest, new)
                    # Where the listing ended, more may follow next time.
                    self._before.next_size_bytes = end - begin if found >= 0 else 0
                blocks.append(block)
                self._before, begin = block, end
        self._pass(blocks)
        if begin:
            self._last_line = _last_line(listing[:begin])
        return blocks, begin

    def _pass(self, blocks: Iterable[Block]) -> None:
        """Count blocks, in the order of the listing."""
        for block in blocks:
            self.lines += block.line_count
            if not block.is_sorted or block.first_place <= self._last_place:
                self._ascends = False
            self._last_place = block.last_place

    def _look_at(self, data: bytes, digest: bytes, new: list[NewLine]) -> Block:
        """A block that is not known, line by line: what is new in it is added to `new`."""
        lines = data.split(b"\n")
        lines.pop()
        block = Block(digest, len(lines))
        digests = [md5(line, usedforsecurity=False).digest() for line in lines]
        slots = self._index.see_lines(block, digests)
        places = self._index.places(slots)
        unknown = slots.count(LineIndex.NO_SLOT)
        if unknown:
            self._is_all_known = False
            new_digests = []
            for at, slot in enumerate(slots):
                if slot == LineIndex.NO_SLOT:
                    line = lines[at]
                    record = parse_line(line)
                    if record is None:
                        self.puzzle(line)
                        places[at] = readable_place(line) or 0
                    else:
                        new.append(NewLine(line, digests[at], record))
                        new_digests.append(digests[at])
                        places[at] = record.place
            # After a first listing all of it is looked at once more: it is not worth what it takes to know it at once.
            if self.known_at_begin and len(new_digests) == unknown:
                self._new_blocks.append((block, b"".join(new_digests)))
        block.first_place, block.last_place, block.is_sorted = places[0], places[-1], _ascend(places)
        return block


def _ascend(places: list[int]) -> bool:
    return all(map(lt, places, islice(places, 1, None)))


def _last_line(whole_lines: bytes) -> bytes:
    return whole_lines[whole_lines.rfind(b"\n", 0, -1) + 1 : -1]
