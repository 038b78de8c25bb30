"""What the load is made of, and what its figures are held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsm_shipper.contract.kernel_line import parse_line
from tests.support.usage import Course, course_of
from tests.torture.long_lists import LongList


def test_lists_are_what_a_kernel_prints_and_change_as_much_as_is_asked_for(tmp_path: Path) -> None:
    long_list = LongList(tmp_path / "actions", 1, 70_000, 4000)
    before = [*long_list.lines]
    long_list.step()
    long_list.write()
    shown = (tmp_path / "actions").read_bytes().splitlines()
    places = []
    for line in shown:
        record = parse_line(line)
        assert record is not None
        places.append(record.place)
    assert len(shown) == 70_000 and places == sorted({*places})
    assert len({*long_list.lines} - {*before}) == 3000  # a thousand came, and two thousand changed
    assert len({*before} - {*long_list.lines}) == 3000  # a thousand went


def test_what_grows_behind_its_beginning_is_seen() -> None:
    assert course_of([9, 1, 1, 1, 1, 1, 1, 1, 1]) == Course(1, 1, 9)
    assert course_of([50, 10, 10, 20, 20, 21, 30, 30, 31]).growth == 10
    with pytest.raises(AssertionError, match="tell nothing"):
        course_of([1, 2])
