"""How much is shipped at once: less where the server is held for long, and slowly more again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.worker.batch_size import (
    BATCH_BYTES,
    BATCH_EVENTS,
    SMALLEST_EVENTS,
    BatchSize,
    fitted,
    held_s,
)


@pytest.mark.parametrize(
    ("reply_s", "waited_s", "round_trip_s", "held"),
    [
        (0.004, 0.004, 0.001, 0.003),
        (0.030, 0.030, 0.001, 0.029),
        (0.030, 0.020, 0.001, 0.029),  # it was waited for, so it was not there before
        (0.030, 0.0001, 0.001, None),  # it was there, and nobody knows since when
        (0.004, 0.0001, 0.001, 0.003),  # at most: that is short
        (0.0315, 0.0315, 0.030, 0.0015),  # a server that is far away
    ],
)
def test_how_long_the_server_was_held(reply_s: float, waited_s: float, round_trip_s: float, held: float | None) -> None:
    assert held_s(reply_s, waited_s, round_trip_s) == (None if held is None else pytest.approx(held))


@pytest.mark.parametrize(
    ("limit", "events", "held", "now"),
    [
        (1000, 1000, 0.004, 1000),
        (1000, 1000, 0.006, 500),
        (800, 800, 0.056, 400),
        (400, 400, 0.1, SMALLEST_EVENTS),
        (SMALLEST_EVENTS, SMALLEST_EVENTS, 0.1, SMALLEST_EVENTS),
        (300, 300, 0.001, 350),
        (980, 980, 0.001, 1000),
        (1000, 800, 0.006, 400),
        (1000, 3, 0.1, 1000),  # it is not the events that take so long
        (300, 3, 0.001, 300),  # that so few are quick says nothing of more
    ],
)
def test_a_call_makes_the_next_one_smaller_or_slowly_larger(limit: int, events: int, held: float, now: int) -> None:
    assert fitted(limit, events, held) == now


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1))))
def test_it_stays_within_its_bounds(calls: list[tuple[float, float]]) -> None:
    batch = BatchSize()
    for share, held in calls:
        batch.fit(int(share * batch.events), held)
        assert SMALLEST_EVENTS <= batch.events <= BATCH_EVENTS
        assert BATCH_BYTES // BATCH_EVENTS * SMALLEST_EVENTS <= batch.payload_bytes <= BATCH_BYTES


@pytest.mark.parametrize(
    ("per_event_us", "smallest", "largest"), [(3.5, 1000, 1000), (10.0, 250, 550), (15.0, 250, 400), (1000.0, 250, 250)]
)
def test_it_settles_about_where_the_server_is_held_as_long_as_it_may_be(
    per_event_us: float, smallest: int, largest: int
) -> None:
    batch = BatchSize()
    sizes = []
    for _ in range(1000):
        sizes.append(batch.events)
        batch.fit(batch.events, batch.events * per_event_us / 1e6)
    assert smallest <= min(sizes[10:]) and max(sizes[10:]) <= largest


def test_what_is_not_known_changes_nothing_and_one_call_in_eight_is_timed() -> None:
    batch = BatchSize()
    batch.fit(1000, None)
    assert batch.events == BATCH_EVENTS
    assert [batch.is_to_be_timed() for _ in range(17)] == [True, *[False] * 7] * 2 + [True]
