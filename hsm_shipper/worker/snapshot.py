"""One reading of the actions file in the making: what it held so far, and what is decided on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.lustre.actions_file import Reading
from hsm_shipper.process.batched import batched
from hsm_shipper.worker.batch_size import BATCH_EVENTS
from hsm_shipper.worker.changes import same_action
from hsm_shipper.worker.held_lines import HeldLine, HeldLines, NewLine
from hsm_shipper.worker.listing_scan import ListingScan
from hsm_shipper.worker.place_set import PlaceSet
from hsm_shipper.worker.purge_decision import PurgeDecision

# A first ship appends its lines as they are read: some 800 come together so, as much as one call of the script takes.
_LINES_TOGETHER = 600


@dataclass
class Snapshot:
    """One reading in the making."""

    reading: Reading
    scan: ListingScan
    not_ready: str | None
    new_lines: Iterator[list[NewLine]]
    """What is new in the rest of the reading."""
    actions_at: Callable[[Sequence[int]], dict[int, ActionState]]
    """Tells what is known to be live in packed places."""
    held: HeldLines = field(default_factory=HeldLines)
    """New lines that wait for the end of the reading: purges go first in a poll."""
    replaced: PlaceSet = field(default_factory=PlaceSet)
    """Places where the listing holds another action than the stream does."""
    decision: PurgeDecision | None = None

    def hold(self, new: list[NewLine]) -> None:
        """Keep new lines, each with the action that it goes on from."""
        self._hold(self.scan.claim(new), lambda _: False)

    def hold_rest(self) -> None:
        """Read to the end, and keep every new line."""
        for new in self.new_lines:
            self.hold(new)

    def look_again(self, is_seen: Callable[[ActionState], bool]) -> None:
        """Look once more what the held lines go on from, now that the listing is read and some of it may be shipped.

        `is_seen` tells whether the listing holds the very line of an action. Another line for its place is not
        understood then, nor is one of several that does not go on from it: no listing has such lines that is sorted.
        """
        held, self.held, self.replaced = self.held, HeldLines(), PlaceSet()
        for some in batched(held, BATCH_EVENTS):
            self._hold([new for new, _ in some], is_seen)

    def _hold(self, lines: list[NewLine], is_seen: Callable[[ActionState], bool]) -> None:
        actions = self.actions_at([new.record.place for new in lines])
        held: list[HeldLine] = []
        for new in lines:
            before = actions.get(new.record.place)
            if before is None:
                held.append((new, None))
            elif is_seen(before):
                self.scan.puzzle(new.line)
            elif same_action(before, new.record):
                before.fid = new.record.fid  # one object for both: many lines may be held
                held.append((new, before))
            elif before.place in self.scan.contested:
                self.scan.puzzle(new.line)
            else:
                self.replaced.add(before.place)
                held.append((new, None))  # purged before this line is shipped
        self.held.extend(held)


def new_lines_of(reading: Reading, scan: ListingScan) -> Iterator[list[NewLine]]:
    """What is new in a reading, many lines at a time."""

    def chunks() -> Iterator[bytes]:
        for chunk in reading.chunks():
            yield chunk
            reading.lines = scan.lines_taken  # should the next read() fail, that is where it did

    together: list[NewLine] = []
    for new in scan.new_lines(chunks()):
        together += new
        if len(together) >= _LINES_TOGETHER:
            yield together
            together = []
    yield together


def ascends(fresh: list[NewLine], last_place: int) -> bool:
    """Whether places only grow, as the kernel sorts them: then none of them can come twice."""
    for new in fresh:
        if new.record.place <= last_place:
            return False
        last_place = new.record.place
    return True
