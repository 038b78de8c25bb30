"""A reading against what is known: which lines are new, what is missing, and whether the listing is sorted."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import pytest

from hsm_shipper.contract.kernel_line import readable_place
from hsm_shipper.worker import listing_scan
from hsm_shipper.worker.held_lines import HELD_OPEN_MAX, HeldLines
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_scan import ListingScan
from tests.support import core
from tests.support.core import digest, line, lines, place
from tests.unit.surveys import NEW_FORMAT, chunk, known, places, survey, taken

# LineIndex


def test_what_is_known_is_unseen_when_a_poll_begins_and_seen_when_its_line_came() -> None:
    knows = known(lines([1, 2]))
    reading = survey(knows, [line(2)])
    assert knows.unseen() == places([1])
    assert knows.is_seen(place(2), digest(line(2)))
    assert not knows.is_seen(place(1), digest(line(1)))
    assert reading.missing() == places([1])


def test_an_action_without_a_known_hash_is_known_by_its_place() -> None:
    knows = LineIndex([([place(1), place(2)], [None, digest(line(2))])])
    survey(knows, [line(2)])
    assert knows.unseen() == places([1])
    knows.drop_all([place(1)], [None])
    assert (len(knows), knows.unseen()) == (1, set())


def test_a_slot_that_was_freed_is_used_again() -> None:
    knows = known(lines(range(1, 4)))
    knows.begin()
    _, [slot] = knows.see_lines(b"a" * 32, [digest(line(2))])
    knows.drop_all([place(2)], [digest(line(2))])
    knows.add_all([place(9)], [digest(line(9))])
    _, slots = knows.see_lines(b"b" * 32, [digest(line(9)), digest(line(2))])
    assert slots == [slot, LineIndex.NO_SLOT]
    knows.begin()
    assert knows.unseen() == places([1, 3, 9])


def test_a_freed_slot_is_nothing_to_miss() -> None:
    knows = known(lines([1, 2]))
    knows.begin()
    knows.drop_all([place(1)], [digest(line(1))])
    assert knows.unseen() == places([2])
    knows.begin()
    assert knows.unseen() == places([2])


@pytest.mark.parametrize("freed_before", [False, True])
def test_what_is_added_during_a_poll_is_seen_in_it_and_unseen_in_the_next(freed_before: bool) -> None:
    knows = known(lines([1]))
    knows.begin()
    if freed_before:
        knows.drop_all([place(1)], [digest(line(1))])
    knows.add_all([place(2)], [digest(line(2))])
    assert knows.is_seen(place(2), digest(line(2)))
    knows.begin()
    assert place(2) in knows.unseen()


def test_a_line_that_is_said_to_be_in_two_places_is_looked_at_where_one_of_them_is_marked() -> None:
    for marked in (1, 2):
        knows = LineIndex([([place(1), place(2)], [digest(line(1))] * 2)], {place(marked)})
        assert survey(knows, [line(1)]).missing() == places([2])
        for rec in (1, 2):
            knows.drop_all([place(rec)], [digest(line(1))])
        assert len(knows) == 0


# HeldLines


def test_held_lines_come_back_in_order_also_where_many_are_packed() -> None:
    count = 2 * HELD_OPEN_MAX + 10
    data = lines(range(1, count + 1))
    before = [core.live_action(line(rec, "STARTED")) if rec % 3 else None for rec in range(1, count + 1)]
    lines_held = list(zip(taken(ListingScan(LineIndex()), data), before, strict=True))
    held = HeldLines()
    for begin in range(0, count, 700):
        held.extend(lines_held[begin : begin + 700])
    assert len(held) == count
    assert list(held) == lines_held
    assert list(held) == lines_held, "again and again"


# ListingScan


def test_only_lines_that_are_not_known_are_new() -> None:
    reading = ListingScan(known(lines([1, 2])))
    new = taken(reading, [line(1), line(2, "STARTED"), line(3)])
    assert [(found.line, found.digest, found.record.place) for found in new] == [
        (line(2, "STARTED"), digest(line(2, "STARTED")), place(2)),
        (line(3), digest(line(3)), place(3)),
    ]
    assert (reading.lines, reading.not_understood, reading.example) == (3, 0, None)


@pytest.mark.parametrize("repeated", [1, 3, 5])
@pytest.mark.parametrize("odd", [[], [b"?"]])
def test_what_was_shipped_of_a_first_listing_is_known_in_the_rest_of_it(repeated: int, odd: list[bytes]) -> None:
    knows = LineIndex()
    reading = ListingScan(knows)
    chunks = [lines(range(1, 6)), [*odd, line(repeated), line(6)], [line(repeated), line(7)]]
    found = []
    for new in reading.new_lines(map(chunk, chunks)):
        for claimed in reading.claim(new):
            found.append(claimed.line)
            knows.add_all([claimed.record.place], [claimed.digest])
    assert found == lines(range(1, 8))
    assert (reading.not_understood, reading.is_sorted(), reading.missing()) == (len(odd), False, set())


def test_only_lines_near_a_change_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = lines(range(1, 2001))
    knows = known(listing)
    looked_at: list[bytes] = []

    def counted(data: bytes, *, usedforsecurity: bool) -> Any:
        looked_at.append(data)
        return hashlib.md5(data, usedforsecurity=usedforsecurity)

    monkeypatch.setattr(listing_scan, "md5", counted)
    survey(knows, listing[:700], listing[700:])
    assert looked_at == listing
    looked_at.clear()
    survey(knows, listing[:1000], listing[1000:])
    assert looked_at == []
    del listing[1004]
    survey(knows, listing)
    assert looked_at == listing[999:1018]


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
    first, second, end = lines(range(1, 20)), [*lines(range(20, 40)), line(5)], lines(range(40, 60))
    all_of_them = [*first, *second[:-1], *end]
    knows = known([data for data in all_of_them if data != line(9)] if is_new else all_of_them)
    reading = survey(knows, first, second, end)
    if is_new:
        knows.add_all([place(9)], [digest(line(9))])
    reading.keep_blocks()
    for _ in range(3):
        assert survey(knows, first, second[:-1], end).missing() == set()
        survey(knows, first, second, end)


def test_what_is_known_of_a_block_ends_with_the_first_of_its_lines_that_goes() -> None:
    listing = lines(range(1, 40))
    knows = known(listing)
    survey(knows, listing)
    for data in listing[9:19]:
        knows.drop_all([place(listing.index(data) + 1)], [digest(data)])
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
    knows.drop_all([place(3)], [digest(line(3))])
    knows.add_all([place(7)], [digest(line(7))])
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
