"""Which of the actions that a reading misses are believed gone."""

from __future__ import annotations

from collections.abc import Iterable, Set

import pytest

from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.purge_decision import PurgeDecision, decide_purges
from tests.support.core import by_place, line, lines
from tests.unit.surveys import NEW_FORMAT, known, places, survey


def verdict(
    had: Iterable[int],
    listing: list[bytes],
    missed: Iterable[int] = (),
    *,
    fault: str | None = None,
    coordinator: str | None = None,
) -> PurgeDecision:
    """The verdict on a complete reading of `listing`, where the actions in `had` are known."""
    reading = survey(known(lines(had)), listing)
    return decide_purges(reading, places(missed), fault=fault, coordinator=coordinator)


def test_nothing_missing_is_nothing_to_doubt() -> None:
    assert verdict([1, 2], lines([1, 2])) == PurgeDecision(set(), set(), None)


def test_a_few_missing_of_a_complete_reading_are_gone() -> None:
    assert verdict(range(1, 9), lines([1, 2, 3, 4, 8])) == PurgeDecision(places([5, 6, 7]), set(), None)


def test_an_empty_cache_has_nothing_to_miss() -> None:
    assert verdict([], []) == PurgeDecision(set(), set(), None)
    assert verdict([], lines([1, 2])) == PurgeDecision(set(), set(), None)


def test_exactly_half_missing_are_gone() -> None:
    assert verdict(range(1, 9), lines([5, 6, 7, 8])).purge == places([1, 2, 3, 4])


def test_more_than_half_missing_wait_for_the_next_reading() -> None:
    gone = verdict(range(1, 8), lines([5, 6, 7]))
    assert (gone.purge, gone.unconfirmed_absent) == (set(), places([1, 2, 3, 4]))
    assert gone.doubt == "4 of 7 live actions are missing"


def test_ten_missing_beyond_the_end_are_gone() -> None:
    assert verdict(range(1, 31), lines(range(1, 21))).purge == places(range(21, 31))


def test_eleven_missing_beyond_the_end_wait_for_the_next_reading() -> None:
    gone = verdict(range(1, 32), lines(range(1, 21)))
    assert (gone.purge, gone.unconfirmed_absent) == (set(), places(range(21, 32)))
    assert gone.doubt == "the last 11 live actions are missing"


def test_many_missing_before_the_end_are_gone() -> None:
    assert verdict(range(1, 41), lines(range(20, 41))).purge == places(range(1, 20))


def test_a_reading_cut_short_makes_all_that_it_missed_wait() -> None:
    assert verdict(range(1, 41), lines(range(5, 26))).unconfirmed_absent == places([*range(1, 5), *range(26, 41)])


def test_one_line_that_is_not_understood_makes_what_is_missing_wait() -> None:
    gone = verdict(range(1, 9), [*lines(range(2, 9)), b"?"])
    assert (gone.purge, gone.unconfirmed_absent) == (set(), places([1]))
    assert gone.doubt == "1 of 8 lines are not understood"


def test_a_line_that_is_not_understood_is_no_doubt_where_nothing_is_missing() -> None:
    assert verdict([1], [line(1), b"?"]) == PurgeDecision(set(), set(), None)


def test_what_two_complete_readings_miss_is_gone() -> None:
    assert verdict([1, 2, 3], [], [1, 2, 3]) == PurgeDecision(
        places([1, 2, 3]), set(), "3 of 3 live actions are missing"
    )


def test_of_what_a_doubtful_reading_misses_only_what_was_missed_before_is_gone() -> None:
    gone = verdict([1, 2, 3], [], [2])
    assert (gone.purge, gone.unconfirmed_absent) == (places([2]), places([1, 3]))


def test_what_was_missed_and_is_seen_again_is_forgotten() -> None:
    assert verdict([1, 2, 3], [line(1)], [1, 2]).unconfirmed_absent == places([3])


def test_what_a_listing_in_no_order_lacks_waits_for_the_next_reading() -> None:
    gone = verdict(range(1, 9), lines([3, 1, 4, 2, 5, 6, 7]))
    assert (gone.purge, gone.unconfirmed_absent) == (set(), places([8]))
    assert gone.doubt == "the listing is not sorted by place, so its end may be missing"
    assert verdict(range(1, 9), lines([3, 1, 4, 2, 5, 6, 7]), [8]).purge == places([8])


def test_of_a_long_listing_the_order_is_looked_at_only_where_something_is_missing() -> None:
    listing = lines([*range(2, 1200), 1])
    reading = survey(known(listing), listing)
    decide_purges(reading, set(), fault=None, coordinator=None)
    assert reading.listings_are_sorted
    reading = survey(known([*listing, line(5000)]), listing)
    assert decide_purges(reading, set(), fault=None, coordinator=None).purge == set()
    assert not reading.listings_are_sorted


NO_PROOF = [("cut off", None), (None, "init"), (None, "stopping")]


@pytest.mark.parametrize(("fault", "coordinator"), NO_PROOF)
def test_a_reading_that_proves_nothing_purges_nothing(fault: str | None, coordinator: str | None) -> None:
    doubted = verdict(range(1, 9), lines(range(1, 8)), [8], fault=fault, coordinator=coordinator)
    assert doubted.purge == set()
    assert (fault or coordinator or "") in (doubted.doubt or "")


@pytest.mark.parametrize(("fault", "coordinator"), NO_PROOF)
def test_a_reading_that_proves_nothing_keeps_what_was_missed_unless_it_was_seen(
    fault: str | None, coordinator: str | None
) -> None:
    assert verdict([1, 2, 3], [line(1)], [1, 2], fault=fault, coordinator=coordinator).unconfirmed_absent == places([2])


def test_a_reading_mostly_not_understood_purges_nothing() -> None:
    gone = verdict([1, 2, 3], [line(1), b"?", b"!"], [2, 3])
    assert (gone.purge, gone.unconfirmed_absent) == (set(), places([2, 3]))
    assert gone.doubt == "2 of 3 lines are not understood"


def test_a_reading_half_understood_may_purge_what_was_missed_before() -> None:
    assert verdict([1, 2, 3], [line(1), b"?"], [2, 3]).purge == places([2, 3])


def polled(knows: LineIndex, missed: Set[int], listing: list[bytes]) -> tuple[Set[int], Set[int]]:
    """One more poll: what is purged is known no more."""
    gone = decide_purges(survey(knows, listing), missed, fault=None, coordinator=None)
    for purged in gone.purge:
        knows.drop_all([purged], [by_place(lines(range(1, 101)))[purged]])
    return gone.purge, gone.unconfirmed_absent


def test_a_list_that_shrinks_step_by_step_settles_one_reading_behind() -> None:
    knows = known(lines(range(1, 101)))
    missed: Set[int] = set()
    purges = []
    for left in (100, 40, 15, 0, 0, 0):
        purged, missed = polled(knows, missed, lines(range(1, left + 1)))
        purges.append(len(purged))
    assert purges == [0, 0, 60, 25, 15, 0]
    assert (len(knows), missed) == (0, set())


def test_a_line_that_is_never_understood_holds_up_the_end_of_others_by_one_reading_only() -> None:
    knows = known(lines(range(1, 7)))
    missed: Set[int] = set()
    purges = []
    for left in ([1, 2, 3, 4, 5], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]):
        purged, missed = polled(knows, missed, [NEW_FORMAT % 9, *lines(left)])
        purges.append(purged)
    assert purges == [set(), places([6]), places([5]), set()]
