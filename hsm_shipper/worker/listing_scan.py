"""The hot loop: every line of every poll passes here, most of them unlooked at. Pure: no I/O, no clock.

A listing is taken in runs of blocks that are what they were in the last reading; where there is a difference, block by
block (`listing_blocks`). If the SHA-256 of a run or of a block is known, every line of it is known and there. Only the
lines of other blocks are looked at one by one, by their MD5.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Set
from hashlib import md5, sha256
from itertools import islice, pairwise
from operator import lt

from hsm_shipper.contract.action_state import UNKNOWN_ENTRY, ActionState
from hsm_shipper.contract.kernel_line import parse_line, readable_place
from hsm_shipper.contract.stream_ids import milliseconds_of, pack_id
from hsm_shipper.worker.block_table import UNSORTED_PLACES, BlockRun, Extent
from hsm_shipper.worker.held_lines import NewLine
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_blocks import RUN_BYTES, block_end
from hsm_shipper.worker.place_set import PlaceSet

# A listing of so few lines may be sorted by chance.
FEW_LINES = 10
# Blocks with new lines, of some 400 bytes each until these are shipped. Those of others are looked at once more.
_NEW_BLOCKS_MAX = 2_500


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
        self._index, self._blocks = index, index.blocks
        self.known_at_begin = len(index)
        self._last_runs = index.begin()
        self._run_ends = {run.blocks[-1]: at for at, run in enumerate(self._last_runs)}
        # Which of them is expected to follow: none behind something new, before one of them has ended again.
        self._expected: int | None = 0
        self._run: list[int] = []  # blocks of a run that has not ended yet
        self._run_is_known = True
        self._rest = b""  # the lines from the beginning of that run on
        self._passed_bytes = 0  # how much of them the blocks of that run have
        self._last_line: bytes | None = None
        self._last_place = -1
        self.ascends = True
        """Whether the places of all lines so far only grow: no place is there twice."""
        # Blocks with new lines, their SHA-256, and the MD5s of those lines, one behind the other.
        self._new_blocks: list[tuple[int, bytes, bytes]] = []
        self.listings_are_sorted = listings_are_sorted
        """Whether listings are sorted by place, as the kernel's are, as far as `is_sorted` was asked."""
        self.lines = 0
        self.not_understood = 0
        self.example: bytes | None = None
        """The first line that was not understood."""
        self.contested: set[int] = set()
        """Places that have several new lines: which of them is right is not known."""
        self._present = PlaceSet()  # that hold something new, or something not understood

    def new_lines(self, chunks: Iterable[bytes]) -> Iterator[list[NewLine]]:
        """Run a listing past what is known, some whole lines at a time; yields those that are new and understood."""
        for chunk in chunks:
            yield self._take(chunk, is_end=False) if self.known_at_begin else self._take_first(chunk)
        yield self._take(b"", is_end=True)

    @property
    def lines_taken(self) -> int:
        """Lines so far, with those whose block has not ended yet."""
        return self.lines + self._rest.count(b"\n")

    @property
    def example_lacks_place(self) -> bool:
        """Whether `example` is a line like any other, but for its place, which another line has too."""
        return self.example is not None and parse_line(self.example) is not None

    def keep_blocks(self) -> None:
        """Have blocks that held new lines known from now on, where all of those lines are known by now."""
        for block, digest, digests in self._new_blocks:
            self._index.keep_block(block, digest, [digests[at : at + 16] for at in range(0, len(digests), 16)])
        self._new_blocks = []

    def claim(self, lines: list[NewLine]) -> list[NewLine]:
        """Mark the places of new lines as taken; return the lines, but for further ones of a place that was.

        Those are not understood: the kernel gives each record one place.
        """
        places = [new.record.place for new in lines]
        if not places or (_ascend(places) and self._present.add_beyond(places)):
            return lines
        claimed = []
        for new in lines:
            if self._present.add(new.record.place):
                claimed.append(new)
            else:
                self.puzzle(new.line)
                self.contested.add(new.record.place)
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
            self.listings_are_sorted = self.ascends
        return self.listings_are_sorted

    def missing(self) -> Set[int]:
        """Places of known actions whose place the listing does not hold."""
        return self._index.unseen(but=self._present)

    def _take_first(self, chunk: bytes) -> list[NewLine]:
        """Lines of a listing of which nothing was known: they need no blocks.

        What was shipped of it meanwhile has a place up to the last one: who comes behind that is new.
        """
        lines = chunk.split(b"\n")
        lines.pop()
        records = [record for record in map(parse_line, lines) if record is not None]
        places = [self._last_place, *(record.place for record in records)]
        if len(records) < len(lines) or not (self.ascends and _ascend(places)):
            new: list[NewLine] = []
            self._pass(self._blocks.extent([self._look_at(chunk, sha256(chunk).digest(), new)]))
        else:
            digests = [md5(line, usedforsecurity=False).digest() for line in lines]
            new = list(map(NewLine, lines, digests, records))
            self.lines += len(lines)
            self._last_place = places[-1]
        self._last_line = lines[-1]
        return new

    def _take(self, chunk: bytes, *, is_end: bool) -> list[NewLine]:
        """Take the runs and blocks that end in this chunk: what is new in them."""
        new: list[NewLine] = []
        listing = self._rest + chunk
        begin, at = 0, self._passed_bytes  # of a run, and of the next block in it
        while True:
            if at == begin:
                begin = at = self._pass_runs(listing, begin, is_end=is_end)
                if self._expected is not None:
                    break
            end = block_end(listing, at)
            if end < 0 and is_end:
                end = len(listing)
            if end <= at:
                break
            data = listing[at:end]
            digest = sha256(data).digest()
            block = self._blocks.see(digest) or self._look_at(data, digest, new)
            self._run.append(block)
            at = end
            if at - begin >= RUN_BYTES or block in self._run_ends:
                self._end_run(listing[begin:at])
                begin = at
        if is_end and self._run:
            self._end_run(listing[begin:at])
            begin = at
        if at:
            self._last_line = listing[listing.rfind(b"\n", 0, at - 1) + 1 : at - 1]
        self._rest, self._passed_bytes = listing[begin:], at - begin
        return new

    def _pass_runs(self, listing: bytes, begin: int, *, is_end: bool) -> int:
        """Pass the runs that follow as they did in the last reading: where they end.

        If one is expected still, more of the listing has to tell.
        """
        view = memoryview(listing)
        while self._expected is not None:
            run = self._last_runs[self._expected] if self._expected < len(self._last_runs) else None
            end = begin if run is None else begin + run.size_bytes
            if end > len(listing) and not is_end:
                break
            if run is not None and sha256(view[begin:end]).digest() == run.sha256:
                self._blocks.see_run(run)
                self._pass(run.extent)
                self._expected += 1
                begin = end
            else:
                self._expected = None
        return begin

    def _end_run(self, data: bytes) -> None:
        """The blocks since the last run are one."""
        blocks, self._run = array("I", self._run), []
        extent = self._blocks.extent(blocks)
        self._pass(extent)
        if self._run_is_known:
            self._blocks.runs.append(BlockRun(sha256(data).digest(), len(data), blocks, extent))
            last = self._run_ends.get(blocks[-1])
            self._expected = None if last is None else last + 1
        self._run_is_known = True

    def _pass(self, extent: Extent) -> None:
        """Count blocks, in the order of the listing."""
        self.lines += extent.line_count
        if not self._last_place < extent.first_place <= extent.last_place:
            self.ascends = False
        self._last_place = extent.last_place

    def _look_at(self, data: bytes, digest: bytes, new: list[NewLine]) -> int:
        """A block that is not known, line by line: what is new in it is added to `new`."""
        lines = data.split(b"\n")
        lines.pop()
        digests = [md5(line, usedforsecurity=False).digest() for line in lines]
        block, slots = self._index.see_lines(digest, digests)
        places = self._index.places(slots)
        if LineIndex.NO_SLOT in slots:
            unknown = [at for at, slot in enumerate(slots) if slot == LineIndex.NO_SLOT]
            self._run_is_known = False
            new_digests = []
            for at in unknown:
                record = parse_line(lines[at])
                if record is None:
                    self.puzzle(lines[at])
                    places[at] = readable_place(lines[at]) or 0
                else:
                    new.append(NewLine(lines[at], digests[at], record))
                    new_digests.append(digests[at])
                    places[at] = record.place
            if len(new_digests) == len(unknown) and len(self._new_blocks) < _NEW_BLOCKS_MAX:
                self._new_blocks.append((block, digest, b"".join(new_digests)))
        first_and_last = (places[0], places[-1]) if _ascend(places) else UNSORTED_PLACES
        self._blocks.set_extent(block, Extent(len(lines), *first_and_last))
        return block


def _ascend(places: list[int]) -> bool:
    return all(map(lt, places, islice(places, 1, None)))
