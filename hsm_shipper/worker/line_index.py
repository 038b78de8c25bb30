"""The lines that a stream is known to say are live: the memory of a worker. Pure: no I/O, no clock.

A line is known by its MD5, and once it was seen, as a part of the block of lines that it stood in (`listing_blocks`):
as long as the very same block is in the listing, none of its lines needs a look.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Container, Iterable, Sequence, Set
from itertools import compress, groupby

from hsm_shipper.worker.block_table import BlockRun, BlockTable
from hsm_shipper.worker.digest_table import DigestTable
from hsm_shipper.worker.place_set import PlaceSet


class LineIndex:
    """The live lines by MD5, and the blocks that they stand in: some 40 bytes and a twentieth of a block each.

    350,000 have to fit beside a metadata server's real work. Each has a slot, a whole number, and is in one block: the
    one that held it last. A block that a line has left, or whose line is known no more, says nothing any longer.
    """

    NO_SLOT = DigestTable.NONE
    """The slot of a line that is not known."""

    def __init__(
        self, actions: Iterable[tuple[Sequence[int], Sequence[bytes | None]]] = (), look_at: Collection[int] = ()
    ) -> None:
        """`actions` are packed places and MD5s, some at a time; those in the places `look_at` are to be looked at
        whatever they are.
        """
        self._slots = DigestTable()
        # Lines that are to be looked at whatever they are: their entry does not tell their MD5, or they are to be
        # refreshed, or they are ambiguous.
        self._slots_by_place: dict[int, int] = {}
        # A stream may say of two places that they hold the same line (somebody else's entry). The line's MD5 then
        # tells of neither of them that it is there.
        self._ambiguous: set[bytes] = set()
        self._places = array("Q", [0])
        self._free = array("I")
        self.blocks = BlockTable()
        self._block_of = array("I", [BlockTable.NOWHERE])  # of each slot; `NOWHERE` where no line has it
        self._arrived = self.blocks.take()  # where a line is until it was seen in a listing
        looked_at = []
        for places, digests in actions:
            if look_at:
                looked_at += [digest for place, digest in zip(places, digests, strict=True) if place in look_at]
                digests = [None if place in look_at else digest for place, digest in zip(places, digests, strict=True)]
            self.add_all(places, digests)
        for digest in looked_at:
            if digest in self:
                assert digest is not None
                self._share(digest)

    def __len__(self) -> int:
        return len(self._places) - 1 - len(self._free)

    def __contains__(self, digest: object) -> bool:
        """Whether a line with this MD5 is known, and needs no look."""
        return isinstance(digest, bytes) and self._slots.get(digest) != self.NO_SLOT

    # While a listing is read

    def begin(self) -> list[BlockRun]:
        """Begin a reading: nothing was seen in it yet. Returns the runs of the last one whose lines are known still."""
        last_runs = self.blocks.begin()
        self._arrived = self.blocks.take()
        return last_runs

    def see_lines(self, sha256: bytes, digests: Sequence[bytes]) -> tuple[int, Sequence[int]]:
        """A new block, and the slots of its lines by their MD5; `NO_SLOT` for those that are not known.

        The others are seen in it. It is known by its SHA-256 from now on, where all of them are.
        """
        block = self.blocks.take()
        slots = self._slots.get_all(digests) if len(self) else [self.NO_SLOT] * len(digests)
        self._move(slots, block)
        if self.NO_SLOT not in slots:
            self.blocks.know(block, sha256)
        return block, slots

    def keep_block(self, block: int, sha256: bytes, digests: Sequence[bytes]) -> None:
        """Know a block by its SHA-256, if those of its lines that were not known when they were seen are by now."""
        slots = self._slots.get_all(digests)
        if self.NO_SLOT not in slots and not self.blocks.was_left(block):
            self._move(slots, block)
            self.blocks.know(block, sha256)

    def places(self, slots: Iterable[int]) -> list[int]:
        """The packed places of slots; 0 for `NO_SLOT`."""
        if isinstance(slots, range):
            return self._places[slots.start : slots.stop].tolist()
        return list(map(self._places.__getitem__, slots))

    def is_seen(self, place: int, digest: bytes | None) -> bool:
        """Whether the action in `place` was seen since `begin`."""
        slot = self.NO_SLOT if digest is None else self._slots.get(digest)
        if slot == self.NO_SLOT or self._places[slot] != place:
            slot = self._slots_by_place[place]
        return self.blocks.is_seen(self._block_of[slot])

    def unseen(self, but: Container[int] = ()) -> Set[int]:
        """Packed places of every action whose line was not seen since `begin`, but for those in `but`."""
        unseen = self.blocks.unseen()
        slots = list(map(self.blocks.slots, unseen))
        found: Iterable[int]
        # Where the lines of one block are far from each other, it is soon less to look at every line once.
        if sum(map(len, slots)) > len(self._places):
            found = compress(self._places, map(set(unseen).__contains__, self._block_of))
        else:
            of = zip(unseen, slots, strict=True)
            found = (self._places[slot] for block, some in of for slot in some if self._block_of[slot] == block)
        return PlaceSet(sorted(place for place in found if place not in but))

    # When it is known what became of the lines

    def add_all(self, places: Sequence[int], digests: Sequence[bytes | None]) -> None:
        """Know the actions in some places, by the MD5s of their lines; they count as seen."""
        if not places:
            return
        slots = self._take_slots(places)
        if None not in digests and self._ambiguous.isdisjoint(digests):
            self._know(slots, digests)  # type: ignore[arg-type]
            return
        for slot, digest in zip(slots, digests, strict=True):
            if digest is None or digest in self._ambiguous:
                self._slots_by_place[self._places[slot]] = slot
            else:
                self._know([slot], [digest])

    def drop_all(self, places: Sequence[int], digests: Sequence[bytes | None]) -> None:
        """Forget the actions in some places, whose lines have these MD5s."""
        if not places:
            return
        slots = None if None in digests else self._slots.get_all(digests)  # type: ignore[arg-type]
        if slots is not None and self.NO_SLOT not in slots and self.places(slots) == places:
            self._slots.free(slots)
        else:
            slots = list(map(self._forget, places, digests))
        self._move(slots, BlockTable.NOWHERE)
        self._free.extend(reversed(slots))  # the last is taken first: so lines that come are in order as these went

    def _take_slots(self, places: Sequence[int]) -> Sequence[int]:
        """Slots for the actions in some places."""
        first = len(self._places)
        slots: Sequence[int] = range(first, first + len(places))
        if self._free:
            again = self._free[-len(places) :].tolist()[::-1]
            del self._free[-len(places) :]
            for slot, place in zip(again, places, strict=False):
                self._places[slot] = place
            slots = [*again, *slots[: len(places) - len(again)]]
            places = places[len(again) :]
        self._places.extend(places)
        self._block_of.extend([BlockTable.NOWHERE] * len(places))
        self._move(slots, self._arrived)
        return slots

    def _know(self, slots: Sequence[int], digests: Sequence[bytes]) -> None:
        for slot in self._slots.add_all(digests, slots):
            digest = digests[slots.index(slot)]
            if digest not in self._ambiguous:
                self._share(digest)
            self._slots_by_place[self._places[slot]] = slot

    def _forget(self, place: int, digest: bytes | None) -> int:
        """The slot that the action in `place` had."""
        slot = self.NO_SLOT if digest is None else self._slots.get(digest)
        if slot == self.NO_SLOT or self._places[slot] != place:  # it is to be looked at, or that is another one's line
            return self._slots_by_place.pop(place)
        self._slots.free([slot])
        return slot

    def _share(self, digest: bytes) -> None:
        """Look at this line from now on, whatever it is."""
        self._ambiguous.add(digest)
        slot = self._slots.get(digest)
        self._slots.free([slot])
        self._slots_by_place[self._places[slot]] = slot
        self.blocks.leave(self._block_of[slot], 0)

    def _move(self, slots: Sequence[int], block: int) -> None:
        """Have these lines in `block`, and in no other."""
        block_of, leave = self._block_of, self.blocks.leave
        moved: range | list[int]
        if isinstance(slots, range) and not self.blocks.members[block]:
            moved = slots
            for left, some in groupby(block_of[slots.start : slots.stop]):
                leave(left, len(list(some)))
            block_of[slots.start : slots.stop] = array("I", [block]) * len(slots)
        else:
            moved = [slot for slot in dict.fromkeys(slots) if slot != self.NO_SLOT and block_of[slot] != block]
            for left, these in groupby(moved, block_of.__getitem__):
                leave(left, len(list(these)))
            for slot in moved:
                block_of[slot] = block
            moved.sort()
        if moved:
            self.blocks.hold(block, len(moved), moved[0], moved[-1])
