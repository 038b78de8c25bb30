"""What the events of a stream tell beyond what is live: how many there were of each kind, and how long things took.

Pure: no I/O, no clock. Counts and times are of what the stream still holds, and go on as events arrive.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import PURGED, UPDATE, Event
from hsm_shipper.contract.fold import Entry
from hsm_tools.command.kernel_words import FAILED, FINAL_STATUSES, STARTED

REFRESH = "REFRESH"
TIMED = FINAL_STATUSES | {STARTED}

# Actions and statuses are the kernel's words, some dozen in all; a stream full of nonsense must not fill the memory.
_KINDS_MAX = 1000
OTHER = "OTHER"
# What is told differs in its seconds, too: this much of it is kept before it is summed up.
_RECENT_MAX = 10_000
# Times are kept to this many binary digits, an error of at most 1.6 %: some thousand different ones up to a century.
_PRECISION_BITS = 6


class Durations:
    """A distribution of durations in whole seconds, in bounded memory."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.total_s = 0

    def add(self, seconds: int, count: int = 1) -> None:
        """Count a duration so many times; a negative one (clocks differ between servers) as 0."""
        seconds = max(seconds, 0)
        shift = seconds.bit_length() - _PRECISION_BITS
        self._counts[seconds if shift <= 0 else seconds >> shift << shift] += count
        self.total_s += seconds * count

    def merge(self, other: Durations) -> None:
        """Count everything that `other` has counted."""
        self._counts.update(other._counts)
        self.total_s += other.total_s

    def __len__(self) -> int:
        return self._counts.total()

    def percentiles(self, wanted: Iterable[float]) -> list[float | None]:
        """The durations, in seconds, that the given shares (0 to 1) do not exceed; None where nothing was counted."""
        ranked: list[int] = []
        ends: list[int] = []
        so_far = 0
        for seconds, count in sorted(self._counts.items()):
            so_far += count
            ranked.append(seconds)
            ends.append(so_far)
        found: list[float | None] = []
        for share in wanted:
            rank = max(1, math.ceil(share * so_far))
            found.append(next((_middle(at) for at, end in zip(ranked, ends, strict=True) if end >= rank), None))
        return found

    def at_most(self, seconds: float) -> int:
        """How many were no longer than that, as far as the precision tells."""
        return sum(count for at, count in self._counts.items() if at <= seconds)


def _middle(seconds: int) -> float:
    """The middle of what is counted as `seconds`."""
    shift = seconds.bit_length() - _PRECISION_BITS
    return seconds if shift <= 0 else seconds + ((1 << shift) - 1) / 2


class EventKind(NamedTuple):
    """By what events are counted; an event that does not say is counted under None.

    `event_type` is REFRESH for an UPDATE that is one; `status` of a PURGED is the last one that the action had.
    """

    event_type: str
    action: str | None
    status: str | None


# Of one event: type (REFRESH for an UPDATE that is one), action, status (of a PURGED the last one), and the seconds
# from first seen to that status where it is timed and began with this event; `_UNTOLD_S` where nobody tells the first.
Told = tuple[str, str | None, str | None, float | None]


_UNTOLD_S = math.inf


class Tally:
    """What one stream's events come to, however often the stream is read anew."""

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        """When its entries came."""
        self._recent: Counter[Told] = Counter()
        self.last = b"0-0"
        """The newest entry that was looked at: what comes before it is not counted again."""
        self.malformed = 0
        """Number of entries that are no events."""
        self._events: Counter[EventKind] = Counter()
        self._durations: dict[tuple[str, str], Durations] = {}
        self._failures: Counter[str] = Counter()

    @property
    def events(self) -> Counter[EventKind]:
        """Number of events by kind."""
        self._settle()
        return self._events

    @property
    def durations(self) -> dict[tuple[str, str], Durations]:
        """From first seen to `STARTED` or to a final status, by action and that status."""
        self._settle()
        return self._durations

    @property
    def failures(self) -> Counter[str]:
        """Number of times that an action became FAILED, by action."""
        self._settle()
        return self._failures

    def add(self, page: Sequence[Entry], told: Iterable[Told], malformed: int = 0) -> None:
        """Count the events of the next entries, by what they told; so many of them were no events."""
        if page:
            self.last = page[-1][0]
            self.arrivals.add(page)
        self.malformed += malformed
        self._recent.update(told)
        if len(self._recent) > _RECENT_MAX:
            self._settle()

    def forget_past(self) -> None:
        """Count from here on only: what was counted so far stays looked at."""
        self._recent.clear()
        self._events.clear()
        self._durations.clear()
        self._failures.clear()
        self.malformed = 0

    def _settle(self) -> None:
        recent, self._recent = self._recent, Counter()
        for (event_type, action, status, seconds), count in recent.items():
            kind = EventKind(event_type, action, status)
            if kind not in self._events and len(self._events) >= _KINDS_MAX:
                kind = EventKind(event_type, OTHER, OTHER)
            self._events[kind] += count
            if seconds is None or not action or not status:
                continue
            if status == FAILED:
                is_kept = action in self._failures or len(self._failures) < _KINDS_MAX
                self._failures[action if is_kept else OTHER] += count
            if seconds != _UNTOLD_S:
                self._add_duration(action, status, seconds, count)

    def _add_duration(self, action: str, status: str, seconds: float, count: int) -> None:
        key = (action, status)
        if key not in self._durations:
            if len(self._durations) >= _KINDS_MAX:
                key = (OTHER, status)
            self._durations.setdefault(key, Durations())
        self._durations[key].add(int(seconds), count)


def told_by(event: Event, before: ActionState | None = None, after: ActionState | None = None) -> Told:
    """What is counted of an event that was folded; see `Folded` for `before` and `after`."""
    event_type = event.event_type
    if event_type == PURGED:
        last_status = event.last_status
        if not last_status and before is not None and event.place is not None:
            last_status = before.status  # earlier shippers do not tell it
        return (PURGED, event.action, last_status, None)
    words = event if after is None else after  # those are interned, which counts faster
    action, status = words.action, words.status
    if event.refresh:
        return (REFRESH, action, status, None)
    if status not in TIMED:
        return (event_type, action, status, None)
    first_seen, status_since = event.first_seen, event.status_since
    if first_seen is None or status_since is None or status_since != event.timestamp:
        # An UPDATE that says something else of the same status is later than its status.
        return (event_type, action, status, None)
    if before is None and event_type == UPDATE and event.host is None:
        # An earlier shipper's, whose NEW has been trimmed: that the fold takes it for the first is no time of 0 s.
        return (event_type, action, status, _UNTOLD_S)
    return (event_type, action, status, status_since - first_seen)


class Arrivals:
    """How many entries came when: the last hour before the newest, in steps of ten seconds."""

    STEP_S = 10
    KEPT_S = 3600

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}  # by number of the step since the epoch

    def add(self, page: Sequence[Entry]) -> None:
        """Count the entries of a page, by the time in their ids."""
        step_ms = self.STEP_S * 1000
        first, last = _milliseconds(page[0][0]) // step_ms, _milliseconds(page[-1][0]) // step_ms
        if first == last:
            self._counts[last] = self._counts.get(last, 0) + len(page)
        else:
            for step in (_milliseconds(entry_id) // step_ms for entry_id, _ in page):
                self._counts[step] = self._counts.get(step, 0) + 1
        if len(self._counts) > 2 * self.KEPT_S // self.STEP_S:
            kept_from = max(self._counts) - self.KEPT_S // self.STEP_S
            self._counts = {step: count for step, count in self._counts.items() if step > kept_from}

    def since(self, time_s: float) -> int:
        """Entries whose ids are later than `time_s` (seconds since the epoch, of the Redis server), to the step."""
        return sum(count for step, count in self._counts.items() if (step + 1) * self.STEP_S > time_s)

    def steps(self, now_s: float, count: int) -> list[int]:
        """Entries of each of the last `count` whole steps before `now_s`, the oldest first."""
        now = int(now_s) // self.STEP_S
        return [self._counts.get(step, 0) for step in range(now - count, now)]


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
