"""A reading against what is known: which lines are new, and which actions are believed gone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest

from hsm_shipper.contract.kernel_line import readable_place
from hsm_shipper.worker.held_lines import HELD_OPEN_MAX, HeldLines, NewLine
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_blocks import Block
from hsm_shipper.worker.listing_scan import ListingScan
from hsm_shipper.worker.purge_decision import PurgeDecision, decide_purges
from tests.support.core import by_place, digest, line, lines, place

NEW_FORMAT = b"lrh=[type=10680000 len=136 idx=1/%d] a kernel that prints something new"


def known(listing: Iterable[bytes]) -> LineIndex:
    """The memory of a worker that knows these lines."""
    return LineIndex(by_place(listing).items())


def chunk(data: Iterable[bytes]) -> bytes:
    """Lines as they are in the file."""
    return b"".join(one + b"\n" for one in data)


def taken(reading: ListingScan, *chunks: list[bytes]) -> list[NewLine]:
    """What is new in a listing, which is read in chunks."""
    return [new for some in reading.new_lines(filter(None, map(chunk, chunks))) for new in some]


def survey(knows: LineIndex, *chunks: list[bytes]) -> ListingScan:
    """A reading in chunks, run past what is known."""
    reading = ListingScan(knows)
    reading.claim(taken(reading, *chunks))
    return reading


def places(recs: Iterable[int]) -> set[int]:
    """Packed places of `lines(recs)`."""
    return {place(rec) for rec in recs}


# LineIndex


def test_what_is_known_is_unseen_when_a_poll_begins_and_seen_when_its_line_came() -> None:
    knows = known(lines([1, 2]))
    reading = survey(knows, [line(2)])
    assert knows.unseen() == places([1])
    assert knows.is_seen(place(2), digest(line(2)))
    assert not knows.is_seen(place(1), digest(line(1)))
    assert reading.missing() == places([1])


def test_an_action_without_a_known_hash_is_known_by_its_place() -> None:
    knows = LineIndex([(place(1), None), (place(2), digest(line(2)))])
    survey(knows, [line(2)])
    assert knows.unseen() == places([1])
    knows.drop(place(1), None)
    assert (len(knows), knows.unseen()) == (1, set())


def test_a_slot_that_was_freed_is_used_again() -> None:
    knows = known(lines(range(1, 4)))
    knows.begin()
    [slot] = knows.see_lines(Block(), [digest(line(2))])
    knows.drop(place(2), digest(line(2)))
    knows.add(place(9), digest(line(9)))
    assert knows.see_lines(Block(), [digest(line(9)), digest(line(2))]) == [slot, LineIndex.NO_SLOT]
    knows.begin()
    assert knows.unseen() == places([1, 3, 9])


def test_a_freed_slot_is_nothing_to_miss() -> None:
    knows = known(lines([1, 2]))
    knows.begin()
    knows.drop(place(1), digest(line(1)))
    assert knows.unseen() == places([2])
    knows.begin()
    assert knows.unseen() == places([2])


@pytest.mark.parametrize("freed_before", [False, True])
def test_what_is_added_during_a_poll_is_seen_in_it_and_unseen_in_the_next(freed_before: bool) -> None:
    knows = known(lines([1]))
    knows.begin()
    if freed_before:
        knows.drop(place(1), digest(line(1)))
    knows.add(place(2), digest(line(2)))
    assert knows.is_seen(place(2), digest(line(2)))
    knows.begin()
    assert place(2) in knows.unseen()


def test_a_line_that_is_said_to_be_in_two_places_is_looked_at_where_one_of_them_is_marked() -> None:
    for marked in (1, 2):
        knows = LineIndex([(place(1), digest(line(1))), (place(2), digest(line(1)))], {place(marked)})
        assert survey(knows, [line(1)]).missing() == places([2])
        for rec in (1, 2):
            knows.drop(place(rec), digest(line(1)))
        assert len(knows) == 0


# HeldLines


def test_held_lines_come_back_in_order_also_where_many_are_packed() -> None:
    count = 2 * HELD_OPEN_MAX + 10
    data = lines(range(1, count + 1))
    new = taken(ListingScan(LineIndex()), data)
    held = HeldLines()
    for begin in range(0, count, 700):
        held.extend(new[begin : begin + 700])
    assert len(held) == count
    assert list(held) == new
    assert list(held) == new, "again and again"


# ListingScan


def test_only_lines_that_are_not_known_are_new() -> None:
    reading = ListingScan(known(lines([1, 2])))
    new = taken(reading, [line(1), line(2, "STARTED"), line(3)])
    assert [(found.line, found.digest, found.record.place) for found in new] == [
        (line(2, "STARTED"), digest(line(2, "STARTED")), place(2)),
        (line(3), digest(line(3)), place(3)),
    ]
    assert (reading.lines, reading.not_understood, reading.example) == (3, 0, None)


def test_a_chunk_of_known_lines_only_holds_nothing_new() -> None:
    reading = ListingScan(known(lines([1, 2])))
    assert taken(reading, lines([1, 2])) == []
    assert reading.missing() == set()


def test_a_place_that_holds_a_new_line_is_not_missing() -> None:
    assert survey(known(lines([1, 2])), [line(1, "STARTED")]).missing() == places([2])


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_second_new_line_for_a_place_is_not_understood(chunks: int) -> None:
    reading = ListingScan(known([line(5)]))
    both = [line(1), line(1, "STARTED")]
    parts = [both] if chunks == 1 else [both[:1], both[1:]]
    new = [claimed for some in reading.new_lines(map(chunk, parts)) for claimed in reading.claim(some)]
    assert [found.line for found in new] == [line(1)]
    assert (reading.not_understood, reading.example) == (1, line(1, "STARTED"))


def test_a_line_that_is_not_understood_keeps_its_place_where_that_can_be_read() -> None:
    reading = survey(known(lines([1, 2, 3])), [NEW_FORMAT % 2, b"no place at all"])
    assert reading.missing() == places([1, 3])
    assert (reading.lines, reading.not_understood, reading.example) == (2, 2, NEW_FORMAT % 2)


@pytest.mark.parametrize("is_new", [False, True])
def test_a_line_that_stands_in_two_blocks_is_there_as_long_as_one_of_them_is(is_new: bool) -> None:
    first, second = lines(range(1, 10)), [*lines(range(10, 20)), line(5)]
    end = lines(range(20, 30))
    knows = known([*first[:-1], *second, *end] if is_new else [*first, *second, *end])
    reading = survey(knows, first, second, end)
    if is_new:
        knows.add(place(9), digest(line(9)))
    reading.keep_blocks()
    for _ in range(3):
        assert survey(knows, first, second[:-1], end).missing() == set()
        survey(knows, first, second, end)


def test_what_is_known_of_a_block_ends_with_the_first_of_its_lines_that_goes() -> None:
    listing = lines(range(1, 40))
    knows = known(listing)
    survey(knows, listing)
    for data in listing[9:19]:
        knows.drop(place(listing.index(data) + 1), digest(data))
    reading = ListingScan(knows)
    assert [new.line for new in taken(reading, listing)] == listing[9:19]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], -1),
        ([[]], -1),
        ([[line(1), line(7)]], place(7)),
        ([[line(7)], []], place(7)),
        ([[line(7)], [line(9)]], place(9)),
        ([[line(7), NEW_FORMAT % 9]], readable_place(NEW_FORMAT % 9)),
        ([[line(7), b"?"]], -1),
    ],
    ids=["no chunk", "an empty chunk", "its last line", "nothing after it", "a later chunk", "odd line", "no place"],
)
def test_where_the_listing_ends(chunks: list[list[bytes]], expected: int) -> None:
    assert survey(known([line(1)]), *chunks).last_place() == expected


@pytest.mark.parametrize("recs", [[], [5], [1, 2, 3], list(range(1, 3000)), [*range(1, 900), *range(2000, 2100)]])
@pytest.mark.parametrize("knows", [True, False])
def test_a_listing_in_order_of_places_is_sorted(recs: list[int], knows: bool) -> None:
    data = lines(recs)
    reading = survey(known(data[::2] if knows else []), data[:700], data[700:])
    assert reading.is_sorted()


@pytest.mark.parametrize("recs", [[2, 1], [1, 1], [*range(1, 701), 700], [*range(1, 2000), 5], [2, *range(1, 2000)]])
@pytest.mark.parametrize("knows", [slice(None), slice(None, None, 2), slice(0)], ids=["all", "half", "none"])
def test_a_listing_with_one_line_out_of_order_is_not_sorted(recs: list[int], knows: slice) -> None:
    data = lines(recs)
    assert not survey(known(data[knows]), data[:700], data[700:]).is_sorted()


def test_the_order_is_that_of_places_and_not_of_what_became_known_first() -> None:
    knows = known(lines([5, 3, 9]))
    knows.drop(place(3), digest(line(3)))
    knows.add(place(7), digest(line(7)))
    assert survey(knows, lines([5, 7, 9])).is_sorted()
    assert not survey(knows, lines([5, 9, 7])).is_sorted()


def test_a_line_whose_place_cannot_be_read_is_in_no_order() -> None:
    assert survey(LineIndex(), [line(1), NEW_FORMAT % 2, line(3)]).is_sorted()
    assert not survey(LineIndex(), [line(1), b"?", line(3)]).is_sorted()


@pytest.mark.parametrize("recs", [[1, 3, 2, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 8, 7], [5, 6, 7, 8, 1, 2, 3, 4]])
def test_the_order_of_chunks_that_are_all_new_is_known_as_well(recs: list[int]) -> None:
    data = lines(recs)
    assert not survey(LineIndex(), data[:4], data[4:]).is_sorted()
    assert survey(LineIndex(), sorted(data)[:4], sorted(data)[4:]).is_sorted()


def test_the_order_of_a_first_reading_takes_no_memory() -> None:
    reading = ListingScan(LineIndex())
    chunks = 50
    tracemalloc.start()
    try:
        for _ in reading.new_lines(chunk(lines(range(1 + at * 1000, 1001 + at * 1000))) for at in range(chunks)):
            pass
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 2 * chunks * 1000, "two bytes a line, where a place alone has eight"


def test_a_short_listing_is_sorted_by_chance_if_others_were_not() -> None:
    reading = ListingScan(LineIndex(), listings_are_sorted=False)
    listing = reading.new_lines(map(chunk, [lines(range(1, 11)), [line(11)]]))
    next(listing)
    assert not reading.is_sorted()
    next(listing)
    assert reading.is_sorted()


# decide_purges


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


def polled(knows: LineIndex, missed: set[int], listing: list[bytes]) -> tuple[set[int], set[int]]:
    """One more poll: what is purged is known no more."""
    gone = decide_purges(survey(knows, listing), missed, fault=None, coordinator=None)
    for purged in gone.purge:
        knows.drop(purged, by_place(lines(range(1, 101)))[purged])
    return gone.purge, gone.unconfirmed_absent


def test_a_list_that_shrinks_step_by_step_settles_one_reading_behind() -> None:
    knows, missed = known(lines(range(1, 101))), set[int]()
    purges = []
    for left in (100, 40, 15, 0, 0, 0):
        purged, missed = polled(knows, missed, lines(range(1, left + 1)))
        purges.append(len(purged))
    assert purges == [0, 0, 60, 25, 15, 0]
    assert (len(knows), missed) == (0, set())


def test_a_line_that_is_never_understood_holds_up_the_end_of_others_by_one_reading_only() -> None:
    knows, missed = known(lines(range(1, 7))), set[int]()
    purges = []
    for left in ([1, 2, 3, 4, 5], [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]):
        purged, missed = polled(knows, missed, [NEW_FORMAT % 9, *lines(left)])
        purges.append(purged)
    assert purges == [set(), places([6]), places([5]), set()]
