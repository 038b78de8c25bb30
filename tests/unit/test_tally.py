"""What events come to: counts by kind, times to a status, and when entries came."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.contract.event import Event
from hsm_shipper.contract.fold import ActionFold, Entry
from hsm_tools.live_state.observer import ToolsObserver
from hsm_tools.live_state.tally import OTHER, Arrivals, Durations, EventKind, Tally, told_by
from tests.support.core import earlier_event, line


def event(kind: Any = "NEW", status: str = "WAITING", at: int = 1000, **more: Any) -> Event:
    """An event of an action first seen at 1000, whose status began with it."""
    fields: dict[str, Any] = {
        "action": "RESTORE",
        "timestamp": at,
        "first_seen": 1000,
        "status_since": at,
        "host": "mds1",
    }
    fields |= more
    return Event(event_type=kind, status=status, **fields)


def tally(*events: Event) -> Tally:
    """The tally of events in entries `1-0`, `2-0`, …"""
    counted = Tally()
    tell(counted, *events)
    return counted


def tell(counted: Tally, *events: Event) -> None:
    """Count events, as whoever folds them does."""
    counted.add([(b"%d-0" % number, None) for number in range(1, len(events) + 1)], map(told_by, events))


def test_events_are_counted_by_type_action_and_status() -> None:
    found = tally(
        event(),
        event(),
        event("UPDATE", "STARTED", 1010),
        event("UPDATE", "STARTED", 1010, refresh=True),
        event("PURGED", "PURGED", 1900, last_status="SUCCEED"),
    )
    assert found.events == {
        EventKind("NEW", "RESTORE", "WAITING"): 2,
        EventKind("UPDATE", "RESTORE", "STARTED"): 1,
        EventKind("REFRESH", "RESTORE", "STARTED"): 1,
        EventKind("PURGED", "RESTORE", "SUCCEED"): 1,
    }


def test_a_stream_full_of_nonsense_fills_no_memory() -> None:
    found = tally(*(event(action=f"A{number}", status="FAILED") for number in range(5000)))
    assert len(found.events) <= 1001 and len(found.durations) <= 1001
    assert found.events[EventKind("NEW", OTHER, OTHER)] == 4000
    assert found.failures.total() == 5000


def test_the_time_to_a_status_counts_from_when_the_action_was_first_seen() -> None:
    found = tally(event(), event("UPDATE", "STARTED", 1010), event("UPDATE", "SUCCEED", 1060))
    assert {key: times.percentiles([1.0]) for key, times in found.durations.items()} == {
        ("RESTORE", "STARTED"): [10],
        ("RESTORE", "SUCCEED"): [60],
    }


@pytest.mark.parametrize(
    "later",
    [
        event("UPDATE", "STARTED", 1010, refresh=True),
        event("UPDATE", "STARTED", 1500, status_since=1010),
        event("PURGED", "PURGED", 1500, last_status="STARTED", status_since=1010),
        event("UPDATE", "WAITING", 1020),
        event("UPDATE", "STARTED", 1010, first_seen=None),
    ],
    ids=["a refresh", "another change", "its end", "a status that is not timed", "an unknown beginning"],
)
def test_what_begins_no_timed_status_is_not_timed(later: Event) -> None:
    assert tally(later).durations == {}


def test_a_failure_is_counted_when_it_happens_and_not_at_its_end() -> None:
    found = tally(event("UPDATE", "FAILED", 1060), event("PURGED", "PURGED", 1090, last_status="FAILED"))
    assert found.failures == {"RESTORE": 1}


def test_what_is_forgotten_is_counted_no_more() -> None:
    found = tally(event(), event("UPDATE", "STARTED", 1010))
    found.add([(b"3-0", None)], [], malformed=1)
    assert found.malformed == 1
    found.forget_past()
    assert (found.events.total(), found.durations, found.malformed, found.last) == (0, {}, 0, b"3-0")
    tell(found, event())
    assert found.events.total() == 1


def test_an_earlier_shippers_action_whose_beginning_was_trimmed_has_taken_no_known_time() -> None:
    entries: list[Entry] = [
        (b"%d-0" % at, msgspec.json.encode(earlier_event(line(rec, status), kind, at)))
        for at, rec, kind, status in (
            (1010, 1, "UPDATE", "STARTED"), (1020, 2, "UPDATE", "FAILED"), (1030, 3, "NEW", "WAITING"),
            (1090, 3, "UPDATE", "FAILED"),
        )
    ]  # fmt: skip
    found = Tally()
    ActionFold(ToolsObserver(found)).fold_page(entries)
    assert {key: times.percentiles([1.0]) for key, times in found.durations.items()} == {("ARCHIVE", "FAILED"): [60]}
    assert found.failures == {"ARCHIVE": 2}


# Durations


@given(st.lists(st.integers(0, 10**9), min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_true_to_two_percent(seconds: list[int], share: float) -> None:
    durations = Durations()
    for one in seconds:
        durations.add(one)
    rank = max(0, -(-int(share * 100) * len(seconds) // 100) - 1)
    (found,) = durations.percentiles([share])
    assert found == pytest.approx(sorted(seconds)[rank], rel=0.02, abs=0)
    assert (len(durations), durations.total_s) == (len(seconds), sum(seconds))


def test_nothing_counted_has_no_percentiles() -> None:
    assert Durations().percentiles([0.5, 1.0]) == [None, None]


def test_clocks_that_differ_make_no_negative_times() -> None:
    durations = Durations()
    durations.add(-5)
    assert (durations.percentiles([0.5]), durations.total_s) == ([0], 0)


def test_at_most_counts_what_was_no_longer() -> None:
    durations = Durations()
    for seconds in (1, 5, 5, 60):
        durations.add(seconds)
    assert [durations.at_most(limit) for limit in (0, 1, 5, 59, 60)] == [0, 1, 3, 3, 4]


def test_a_century_of_different_durations_is_some_thousand_counts() -> None:
    durations = Durations()
    for seconds in range(0, 3_000_000_000, 99_991):
        durations.add(seconds)
    assert len(durations._counts) < 1100


# Arrivals


def entries(*times_s: float) -> list[Entry]:
    """Entries with the ids of these times."""
    return [(b"%d-0" % (time_s * 1000), None) for time_s in times_s]


def test_arrivals_are_counted_by_the_time_in_their_ids() -> None:
    arrivals = Arrivals()
    arrivals.add(entries(1000, 1001, 1009.9))
    arrivals.add(entries(1009.99, 1010, 1035))
    assert arrivals.steps(1040, 5) == [0, 4, 1, 0, 1]
    assert arrivals.since(1030) == 1
    assert arrivals.since(1009) == 6


def test_arrivals_are_kept_for_an_hour() -> None:
    arrivals = Arrivals()
    for hour in range(24):
        arrivals.add(entries(*(hour * 3600 + at for at in range(0, 3600, 10))))
    assert arrivals.since(23 * 3600) == 360
    assert len(arrivals._counts) <= 721
