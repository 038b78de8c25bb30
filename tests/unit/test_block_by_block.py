"""Block by block or line by line: whatever happens to a listing, a poll decides the same."""

from __future__ import annotations

from functools import cache

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hsm_shipper.contract.kernel_line import parse_line
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_blocks import BLOCK_MAX_BYTES
from hsm_shipper.worker.listing_scan import ListingScan
from tests.support import core
from tests.support.core import digest
from tests.support.line_by_line import Known, LineByLine

STATUSES = st.sampled_from(["WAITING", "STARTED", "SUCCEED"])
RECS = st.integers(1, 200)
ODD_LINES = st.sampled_from([
    b"", b"?", b"no place at all", b"x" * 3 * BLOCK_MAX_BYTES, b"0] fid=[" * 200, b"\xff\x00 idx=1/9007] fid=[",
    *(b"lrh=[type=10680000 len=136 idx=1/%d] fid=[a kernel that prints something new" % rec for rec in (9000, 9001)),
])  # fmt: skip
# Cut at every twentieth line, as the kernel's listings are; now and then; or wherever a line begins.
STEPS = st.sampled_from([1, 7, 20])
CHUNKS = st.sampled_from([1, 3, 10, 33, 200])  # lines


@cache
def line(rec: int, status: str = "WAITING") -> bytes:
    return core.line(rec, status)


def place_of(data: bytes) -> int:
    record = parse_line(data)
    assert record is not None
    return record.place


class Polls(RuleBasedStateMachine):
    """A listing that changes in every way, read in chunks of every size, now and then not to its end."""

    @initialize(step=STEPS, count=st.integers(0, 150), backwards=st.booleans())
    def begin(self, step: int, count: int, backwards: bool) -> None:
        self.listing = [line(rec) for rec in range(step, step * count + 1, step)]
        if backwards:
            self.listing.reverse()
        self.listings = [self.listing]
        self.known = Known()
        self.index = LineIndex()

    # -- the listing

    @rule(data=st.data(), status=STATUSES, share=st.integers(1, 40))
    @precondition(lambda self: self.listing)
    def change_lines(self, data: st.DataObject, status: str, share: int) -> None:
        """Every so manieth line from somewhere on."""
        first = self._at(data)
        for at in range(first, len(self.listing), share):
            record = parse_line(self.listing[at])
            if record is not None:
                self.listing[at] = line(record.place & 0xFFFF_FFFF, status)

    @rule(data=st.data(), recs=st.lists(RECS, max_size=30), status=STATUSES)
    def insert(self, data: st.DataObject, recs: list[int], status: str) -> None:
        """Also what is there already: the very line once more, or another line for its place."""
        at = data.draw(st.integers(0, len(self.listing)))
        self.listing[at:at] = [line(rec, status) for rec in recs]

    @rule(count=st.integers(1, 60))
    def append(self, count: int) -> None:
        last = max((place_of(data) & 0xFFFF_FFFF for data in self.listing if parse_line(data)), default=0)
        self.listing += [line(rec) for rec in range(last + 1, last + 1 + count)]

    @rule(data=st.data(), odd=ODD_LINES)
    def insert_odd(self, data: st.DataObject, odd: bytes) -> None:
        self.listing.insert(data.draw(st.integers(0, len(self.listing))), odd)

    @rule(data=st.data(), count=st.integers(1, 50))
    @precondition(lambda self: self.listing)
    def remove(self, data: st.DataObject, count: int) -> None:
        first = self._at(data)
        del self.listing[first : first + count]

    @rule(data=st.data(), count=st.integers(1, 50))
    @precondition(lambda self: self.listing)
    def repeat(self, data: st.DataObject, count: int) -> None:
        """Some lines stand in it once more, somewhere."""
        first, to = self._at(data), self._at(data)
        self.listing[to:to] = self.listing[first : first + count]

    @rule(data=st.data())
    @precondition(lambda self: self.listing)
    def move(self, data: st.DataObject) -> None:
        """It is sorted no more, or again."""
        at = self._at(data)
        self.listing = self.listing[at:] + self.listing[:at]

    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        """It is what it was at some time: blocks that were known stand in it again."""
        self.listing = list(data.draw(st.sampled_from(self.listings)))

    # -- what is known

    @rule(look_at=st.sets(RECS), unknown=st.sets(RECS), foreign=st.sets(RECS, max_size=3), data=st.data())
    def load_again(self, look_at: set[int], unknown: set[int], foreign: set[int], data: st.DataObject) -> None:
        """As after a start, or where maintenance has changed the state file.

        Some lines are to be refreshed, some MD5s are not told, and somebody else tells lines of places.
        """
        rows = dict(self.known.rows)
        for rec in unknown & {place & 0xFFFF_FFFF for place in rows}:
            rows[core.place(rec)] = None
        for rec in foreign:
            rows[core.place(rec + 5000)] = digest(data.draw(st.sampled_from(self.listing or [b"?"])))
        marked = {core.place(rec) for rec in look_at} & rows.keys()
        self.known = Known()
        for place, told in sorted(rows.items()):
            if place in marked and told is not None and told in rows.values():
                self.known.add(place, told, look_at=True)
            else:
                self.known.add(place, told)
        for told in {rows[place] for place in marked} - {None}:
            if told in self.known.by_digest(with_shared=True):
                assert told is not None
                self.known.shared.add(told)
        in_order = sorted(rows)
        some = data.draw(st.integers(1, 20))
        pieces = [in_order[at : at + some] for at in range(0, len(in_order), some)]
        self.index = LineIndex([(piece, [rows[place] for place in piece]) for piece in pieces], marked)

    # -- polls

    @rule(chunk=CHUNKS, kept=st.booleans())
    def poll(self, chunk: int, kept: bool) -> None:
        """Read, compare, ship; the last also where somebody else commits, so that no block is remembered."""
        self.listings.append(list(self.listing))
        scan, model, new = self._read(self.listing, chunk)
        for place in scan.missing():
            self._drop(place)
        for data in new:
            place = place_of(data)
            if place in self.known.rows and place not in model.seen:
                self._drop(place)
            if place not in self.known.rows:
                self.known.add(place, digest(data))
                self.index.add_all([place], [digest(data)])
        if kept:
            scan.keep_blocks()
        assert len(self.index) == len(self.known.rows)

    @rule(chunk=CHUNKS)
    def poll_again(self, chunk: int) -> None:
        """Read and compare: it may be that Redis is away, and nothing is shipped."""
        self._read(self.listing, chunk)

    @rule(chunk=CHUNKS, data=st.data())
    def poll_a_part(self, chunk: int, data: st.DataObject) -> None:
        """An error somewhere, or a list that was cut short."""
        self._read(self.listing[: data.draw(st.integers(0, len(self.listing)))], chunk)

    def _read(self, listing: list[bytes], chunk: int) -> tuple[ListingScan, LineByLine, list[bytes]]:
        model = LineByLine(self.known, listing)
        scan = ListingScan(self.index)
        chunks = (b"".join(one + b"\n" for one in listing[at : at + chunk]) for at in range(0, len(listing), chunk))
        new = [claimed.line for some in scan.new_lines(chunks) for claimed in scan.claim(some)]
        assert new == model.new
        assert (scan.lines, scan.not_understood) == (model.lines, model.not_understood)
        assert scan.missing() == model.missing
        assert (scan.is_sorted(), scan.last_place()) == (model.is_sorted, model.last_place)
        for place, told in self.known.rows.items():
            assert self.index.is_seen(place, told) is (place in model.seen)
        return scan, model, new

    def _drop(self, place: int) -> None:
        self.index.drop_all([place], [self.known.rows[place]])
        self.known.drop(place)

    def _at(self, data: st.DataObject) -> int:
        return int(data.draw(st.integers(0, len(self.listing) - 1)))


TestPolls = Polls.TestCase
TestPolls.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
