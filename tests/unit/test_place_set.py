"""Places in any order against a set."""

from __future__ import annotations

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
