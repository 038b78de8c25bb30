"""Places in any order against a set."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.worker.place_set import PlaceSet

PLACES = st.lists(st.one_of(st.integers(0, 30), st.integers(0, 2**64 - 1)))


@given(PLACES, PLACES, PLACES.map(set).map(sorted).filter(bool))
def test_a_place_is_in_it_once_it_was_added(places: list[int], others: list[int], more: list[int]) -> None:
    found, model = PlaceSet(), set[int]()
    for place in places:
        assert found.add(place) is (place not in model)
        model.add(place)
    if found.add_beyond(more):
        assert more[0] > max(model, default=-1)
        model.update(more)
    for place in [*places, *others, *more]:
        assert (place in found) is (place in model)
    assert list(found) == sorted(model)
    assert len(found) == len(model)
    both = found & set(others)
    assert both == model & set(others)


def test_what_a_purge_of_a_long_list_ends_takes_ten_bytes_each() -> None:
    absent_before = PlaceSet(range(100_000))
    tracemalloc.start()
    try:
        purged = PlaceSet(range(100_000)) & absent_before
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(purged) == 100_000
    assert kept_bytes < 10 * len(purged)
