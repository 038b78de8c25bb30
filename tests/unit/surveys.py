"""Readings against what is known, for the tests of what is new in them and of what is believed gone."""

from __future__ import annotations

from collections.abc import Iterable

from hsm_shipper.worker.line_index import LineIndex
from hsm_shipper.worker.snapshot_diff import SnapshotDiff
from tests.support.core import by_place, place

NEW_FORMAT = b"lrh=[type=10680000 len=136 idx=1/%d] a kernel that prints something new"


def known(listing: Iterable[bytes]) -> LineIndex:
    """The memory of a worker that knows these lines."""
    return LineIndex(by_place(listing).items())


def survey(knows: LineIndex, *chunks: list[bytes]) -> SnapshotDiff:
    """A reading in chunks, run past what is known."""
    reading = SnapshotDiff(knows)
    for chunk in chunks:
        reading.claim(reading.take(chunk))
    return reading


def places(recs: Iterable[int]) -> set[int]:
    """Packed places of `lines(recs)`."""
    return {place(rec) for rec in recs}
