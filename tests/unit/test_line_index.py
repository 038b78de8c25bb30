"""The memory of a worker against a plain model of it: whatever way an action became known, it is found again."""

from __future__ import annotations

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_scan import ListingScan
from tests.support import core
from tests.support.core import digest

LINES = [core.line(7, status) for status in ("WAITING", "STARTED")]
LINE = st.sampled_from(LINES)
PLACES = [core.place(rec) for rec in (1, 2, 3)]


class Memory(RuleBasedStateMachine):
    """Few places and fewer lines: streams that others wrote may say of two places that they hold the same line."""

    def __init__(self) -> None:
        super().__init__()
        self.known = LineIndex()
        self.lines: dict[int, bytes] = {}
        """What is in each place."""
        self.told: dict[int, bytes | None] = {}
        """The line by which it is to be known; None for one that is to be looked at anew."""
        self.shared: set[bytes] = set()
        """Lines that were those of two places at a time: they tell of neither that it is there."""
        self.seen: set[int] = set()

    @rule(lines=st.lists(LINE, max_size=3), marked=st.booleans())
    def add(self, lines: list[bytes], marked: bool) -> None:
        added = dict(zip([place for place in PLACES if place not in self.lines], lines, strict=False))
        for place, line in added.items():
            if not marked and line in self.told.values():
                self.shared.add(line)
            self.lines[place], self.told[place] = line, None if marked else line
            self.seen.add(place)
        self.known.add_all([*added], [None if marked else digest(line) for line in added.values()])

    @rule(data=st.data())
    @precondition(lambda self: self.lines)
    def drop(self, data: st.DataObject) -> None:
        """As rows in the state file say, which name the lines also where they are marked."""
        places = data.draw(st.lists(st.sampled_from(sorted(self.lines)), unique=True))
        self.known.drop_all(places, [digest(self.lines.pop(place)) for place in places])
        for place in places:
            self.told.pop(place)
            self.seen.discard(place)

    @rule(listing=st.lists(LINE, max_size=3))
    def read(self, listing: list[bytes]) -> None:
        deque(ListingScan(self.known).new_lines(data + b"\n" for data in listing), maxlen=0)
        self.seen = {
            place for place, line in self.told.items() if line is not None and line in listing
            and line not in self.shared
        }  # fmt: skip

    @invariant()
    def is_what_the_model_says(self) -> None:
        assert len(self.known) == len(self.lines)
        assert self.known.unseen() == self.lines.keys() - self.seen
        for place, line in self.lines.items():
            assert self.known.is_seen(place, digest(line)) is (place in self.seen)


TestMemory = Memory.TestCase
