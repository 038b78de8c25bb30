"""One reading of the actions file in the making: what it held so far, and what is decided on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.lustre.actions_file import Reading
from hsm_shipper.worker.held_lines import HeldLines, NewLine
from hsm_shipper.worker.listing_scan import ListingScan
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
    held: HeldLines = field(default_factory=HeldLines)
    """New lines that wait for the end of the reading: purges go first in a poll."""
    before: dict[int, ActionState] | None = None
    """What was known to be in the places of the held lines, where there are not too many of them."""
    replaced: set[int] = field(default_factory=set)
    """Places where the listing holds another action than the stream does."""
    decision: PurgeDecision | None = None

    def hold(self, new: list[NewLine]) -> None:
        """Keep new lines."""
        self.held.extend(self.scan.claim(new))

    def hold_rest(self) -> None:
        """Read to the end, and keep every new line."""
        for new in self.new_lines:
            self.hold(new)


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
