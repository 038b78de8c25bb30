"""Whether a stream says what is true: what is wrong in itself, and where it differs from what it should say.

Pure: no I/O, no clock. A stream is held against references: the worker's state file, and the actions file itself.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from hsm_shipper.contract.action_state import ActionState, same_action, same_state
from hsm_shipper.contract.event import NEW, PURGED, line_digest
from hsm_shipper.contract.fold import ActionFold, Entry, Folded, Observer
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.kernel_line import parse_line, readable_place
from hsm_shipper.contract.trim_bound import length_bound
from hsm_tools.live_state.health import Health, WorkerHealth

EXIT_CONSISTENT = 0
EXIT_INCONSISTENT = 1
EXIT_UNKNOWN = 2


class Repetitions(Observer):
    """Counts the entries of a stream that said nothing new.

    A stream that was trimmed begins in the middle: a PURGED whose NEW was trimmed away removes nothing either. So
    these counts are worth a look, and prove nothing.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        """NEW for a place that already held that action; UPDATE that changed nothing and was no refresh."""
        self.purged_without_new = 0
        """PURGED that removed nothing."""

    def page_folded(self, _page: Sequence[Entry], folded: Sequence[Folded], _malformed: Sequence[bytes], /) -> None:
        """Count the events of a page."""
        for _, event, before, after in folded:
            if event.event_type == PURGED:
                self.purged_without_new += before is None
            elif before is not None and after is not None and not event.refresh:
                repeats = same_action if event.event_type == NEW else same_state
                self.duplicates += repeats(before, after)


class Kind(StrEnum):
    """How a stream differs from a reference in one place."""

    ORPHAN = "orphan"
    """Live in the stream, not in the reference."""
    MISSING = "missing"
    """In the reference, not in the stream."""
    DIFFERING = "differing"
    """Another state, or another action, in the stream than in the reference."""


class Difference(NamedTuple):
    """What the stream and a reference say of one place; one of them None where it holds nothing there."""

    stream: ActionState | None
    reference: ActionState | None

    @property
    def kind(self) -> Kind:
        """What kind of difference that is."""
        if self.reference is None:
            return Kind.ORPHAN
        return Kind.MISSING if self.stream is None else Kind.DIFFERING

    def is_same(self, other: Difference) -> bool:
        """Whether neither side has changed from `other` to this."""
        return _unchanged(self.stream, other.stream) and _unchanged(self.reference, other.reference)


Differences = dict[int, Difference]
"""By packed place."""


def _unchanged(before: ActionState | None, now: ActionState | None) -> bool:
    return before is now if before is None or now is None else same_state(before, now)


def compare(
    live: ActionFold,
    reference: Iterable[ActionState],
    passed_over: Container[int] = frozenset(),
    repeated: Callable[[], None] = lambda: None,
) -> Differences:
    """Where `live` differs from `reference`, which is read once.

    `passed_over` are places of which the reference knows only that something is there; it is asked last. `repeated` is
    told of every further action in a place that says something else than `live`: the kernel gives each record a place
    of its own, so that the list is damaged there, and the worker ships the one that it has met first.
    """
    found: Differences = {}
    present: set[int] = set()
    for theirs in reference:
        ours = live.by_place.get(theirs.place)
        differs = ours is None or not same_state(ours, theirs)
        if theirs.place not in present:
            present.add(theirs.place)
            if differs:
                found[theirs.place] = Difference(ours, theirs)
        elif differs or found.pop(theirs.place, None) is not None:
            repeated()
    for ours in live:
        if ours.place not in present and ours.place not in passed_over:
            found[ours.place] = Difference(ours, None)
    return found


def confirmed(before: Differences, now: Differences) -> Differences:
    """The differences of which neither side has changed in between.

    Whoever reads a stream and a file one after the other, while both live, sees differences that are none: only one
    that is still the same later, when whatever was on its way has arrived, is an accusation.
    """
    return {
        place: difference for place, difference in now.items() if place in before and difference.is_same(before[place])
    }


class Listing:
    """The actions of one reading of an actions file; iterate it once."""

    def __init__(self, chunks: Iterable[list[bytes]]) -> None:
        """`chunks` are lists of lines without their newlines."""
        self._chunks = chunks
        self.lines = 0
        self.not_understood = 0
        self.example: bytes | None = None
        """The first line that is not understood by itself."""
        self.repeated = 0
        """Lines that are understood, and say something else of a place than another line and the stream."""
        self.places_not_understood: set[int] = set()
        """Packed places that hold something that is not understood."""

    def __iter__(self) -> Iterator[ActionState]:
        for lines in self._chunks:
            self.lines += len(lines)
            for line in lines:
                record = parse_line(line)
                if record is None:
                    self._count_not_understood(line)
                    continue
                yield ActionState.make(
                    record.place,
                    record.fid,
                    record.action,
                    record.status,
                    record.cookie,
                    line_digest(line),
                    first_seen=None,
                    status_since=None,
                )

    def _count_not_understood(self, line: bytes) -> None:
        self.not_understood += 1
        if self.example is None:
            self.example = line
        place = readable_place(line)
        if place is not None:
            self.places_not_understood.add(place)

    def repeat(self) -> None:
        """Count such a line."""
        self.repeated += 1

    @property
    def not_compared(self) -> int:
        """Lines of which nobody knows whether the stream says what they say."""
        return self.not_understood + self.repeated

    @property
    def is_mostly_not_understood(self) -> bool:
        """Whether the worker, too, takes no line's absence from it for an end."""
        return 2 * self.not_understood > self.lines


@dataclass(frozen=True)
class Comparison:
    """A stream held against the reference `path`; `untold` is why nothing can be said, and then nothing is found."""

    path: str
    found: Differences
    untold: str | None = None
    not_compared: int = 0
    """Lines that could not be compared with the stream, while all others were."""
    doubt: str | None = None
    """What is said of these; None where there are none."""


@dataclass(frozen=True)
class Counts:
    """What the entries of a stream are."""

    entries: int
    live: int
    duplicates: int
    purged_without_new: int
    malformed: int
    malformed_ids: tuple[str, ...]
    """The first few of them."""

    @property
    def garbage_ratio(self) -> float:
        """The share of entries that no live action needs: each needs the one of its present state."""
        return (self.entries - self.live) / self.entries if self.entries else 0.0

    @property
    def length_bound(self) -> int:
        """Entries that there are at most after a maintenance cycle, but for what consumer groups still need."""
        return length_bound(self.live)


@dataclass(frozen=True)
class MdtReport:
    """What the audit of one MDT's stream found; None for what is not known."""

    mdt: str
    stream: str
    counts: Counts | None
    """None if the stream cannot be read: `error` says why."""
    heartbeat: Heartbeat | None
    worker: WorkerHealth
    """What the heartbeat comes to, and whether it could be read."""
    state_file: Comparison | None
    """None where there is none: it is on the server that has the MDT."""
    actions_file: Comparison | None
    error: str | None = None

    @property
    def remark(self) -> str | None:
        """What there is to say that changes nothing."""
        return self.worker.troubles[0] if self.worker.state is Health.UNREADABLE else None

    @property
    def comparisons(self) -> list[Comparison]:
        """Those that could be made."""
        made = (self.state_file, self.actions_file)
        return [comparison for comparison in made if comparison is not None and comparison.untold is None]

    def places(self, kind: Kind) -> set[int] | None:
        """Packed places in which the stream differs so from any reference; None if there was nothing to compare."""
        if not self.comparisons:
            return None
        found = (comparison.found.items() for comparison in self.comparisons)
        return {place for items in found for place, difference in items if difference.kind == kind}

    def count(self, kind: Kind) -> int | None:
        """How many such places there are."""
        places = self.places(kind)
        return None if places is None else len(places)

    @property
    def troubles(self) -> list[str]:
        """Why something could not be told."""
        made = [comparison for comparison in (self.state_file, self.actions_file) if comparison is not None]
        untold = [reason for comparison in made for reason in (comparison.untold, comparison.doubt)]
        reasons = [reason for reason in (self.error, *untold, self._told_by_the_worker) if reason is not None]
        if self.error is None and self.state_file is None and self.actions_file is None:
            reasons.append("orphans and missing actions are known only on the server that has the MDT")
        return reasons

    @property
    def _told_by_the_worker(self) -> str | None:
        """What is not known of a list that this audit has not read itself."""
        beat = self.heartbeat
        if self.actions_file is not None or beat is None or not beat.lines_not_understood:
            return None
        return f"{beat.lines_not_understood:,} of {beat.lines:,} lines of the list are not understood by the worker"

    @property
    def differs(self) -> bool:
        """Whether the stream differs from a reference."""
        return any(comparison.found for comparison in self.comparisons)

    @property
    def exit_code(self) -> int:
        """1 for what is wrong, else 2 for what could not be told, else 0."""
        if self.differs or (self.counts is not None and self.counts.malformed):
            return EXIT_INCONSISTENT
        return EXIT_UNKNOWN if self.troubles else EXIT_CONSISTENT


def exit_code(reports: list[MdtReport]) -> int:
    """The exit code for all of them: what is certainly wrong goes before what could not be told. Without any, 0."""
    codes = {report.exit_code for report in reports} or {EXIT_CONSISTENT}
    return EXIT_INCONSISTENT if EXIT_INCONSISTENT in codes else max(codes)
