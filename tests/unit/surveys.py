"""Readings against what is known, for the tests of what is new in them and of what is believed gone."""

from __future__ import annotations

from collections.abc import Iterable

from hsm_shipper.worker.held_lines import NewLine
from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.listing_scan import ListingScan
from tests.support.core import by_place, place

NEW_FORMAT = b"lrh=[type=10680000 len=136 idx=1/%d] a kernel that prints something new"


def known(listing: Iterable[bytes]) -> LineIndex:
    """The memory of a worker that knows these lines."""
    by_places = by_place(listing)
    return LineIndex([([*by_places], [*by_places.values()])])


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
