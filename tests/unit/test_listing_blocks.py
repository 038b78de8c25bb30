"""Where a listing is cut into blocks: by its content, whatever comes before and wherever it was read in pieces."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.worker.listing_blocks import BLOCK_MAX_BYTES, BLOCK_MIN_BYTES, block_end
from tests.support.core import line, lines

LINE_BYTES = len(line()) + 1


def listing(data: Iterable[bytes]) -> bytes:
    """As it is in the file."""
    return b"".join(one + b"\n" for one in data)


def blocks(data: bytes) -> list[bytes]:
    """All blocks; the last one is what has no end yet."""
    found = []
    begin = 0
    while (end := block_end(data, begin)) >= 0:
        found.append(data[begin:end])
        begin = end
    return [*found, data[begin:]]


def test_a_kernels_listing_is_cut_before_every_twentieth_record() -> None:
    assert blocks(listing(lines(range(1, 95)))) == [
        listing(lines(recs))
        for recs in (range(1, 20), *(range(at, at + 20) for at in range(20, 80, 20)), range(80, 95))
    ]


@pytest.mark.parametrize("change", ["gone", "one more", "longer"])
def test_a_change_moves_no_cut_but_those_of_its_own_block(change: str) -> None:
    before = lines(range(1, 500))
    after = list(before)
    if change == "gone":
        del after[234]
    else:
        after[234:235] = [line(235), line(235)] if change == "one more" else [line(235, "CANCELED")]
    known = set(blocks(listing(before)))
    assert len([block for block in blocks(listing(after)) if block not in known]) == 1


def test_where_every_line_could_end_a_block_it_still_has_some() -> None:
    found = blocks(listing(lines(range(10, 10_000, 10))))[:-1]
    assert {len(block) // LINE_BYTES for block in found} <= {5, 6}


@pytest.mark.parametrize("bytes_a_line", [1, 100, 5_000, 3 * BLOCK_MAX_BYTES])
def test_where_no_line_ends_a_block_it_ends_all_the_same(bytes_a_line: int) -> None:
    data = listing([b"x" * bytes_a_line] * (10 * BLOCK_MAX_BYTES // bytes_a_line + 3))
    found = blocks(data)
    assert len(found) > 3
    assert b"".join(found) == data
    assert all(BLOCK_MAX_BYTES <= len(block) <= BLOCK_MAX_BYTES + bytes_a_line + 1 for block in found[:-1])


LISTING = st.lists(
    st.one_of(st.integers(1, 300).map(line), st.sampled_from([b"", b"?", b"0] fid=[", b"y" * 3000]))
).map(listing)  # fmt: skip


@given(LISTING, LISTING)
def test_blocks_are_whole_lines_and_what_follows_them_decides_on_none(data: bytes, more: bytes) -> None:
    found = blocks(data)
    assert b"".join(found) == data
    assert all(block.endswith(b"\n") for block in found if block)
    assert all(len(block) > BLOCK_MIN_BYTES // 2 for block in found[:-1])
    assert blocks(data + more)[: len(found) - 1] == found[:-1]
