"""Where a reading starts in each stream."""

from __future__ import annotations

import pytest

from hsm_tools.reader.positions import BEGINNING, StreamInfo, id_before, id_parts
from hsm_tools.reader.starts import start_of

PREFIX = "hsm:actions"
KEY, OTHER = b"hsm:actions:elm-MDT0000", b"hsm:actions:elm-MDT0001"
INFO = StreamInfo(b"50-0", 10, 30, b"20-0")


def at(from_beginning: bool, start: object, key: bytes = KEY) -> tuple[bytes, int | None]:
    position = start_of(PREFIX, from_beginning, start).position(key, INFO)  # type: ignore[arg-type]
    return position.id, position.number


def test_now_and_the_beginning_are_looked_up() -> None:
    assert at(False, None) == (b"50-0", 30)
    assert at(True, None) == (BEGINNING, 20)


def test_an_id_counts_for_all_streams_but_never_beyond_their_end() -> None:
    assert at(False, "0-0") == (BEGINNING, 20)
    assert at(False, "30-5") == (b"30-5", None)
    assert at(False, "50-0") == at(False, "999-0") == (b"50-0", 30)


def test_a_saved_position_is_kept_and_what_it_does_not_name_was_born_since() -> None:
    saved = {KEY.decode(): "30-0"}
    assert at(False, saved) == (b"30-0", None)
    assert at(False, saved, OTHER) == (BEGINNING, 0)
    assert at(False, {KEY.decode(): "999-0"}) == (b"999-0", None), "ahead of its stream: that is to be noticed"
    assert start_of(PREFIX, False, saved).saved_keys == {KEY}


def test_ids_are_written_in_one_way() -> None:
    assert start_of(PREFIX, False, {KEY.decode(): "007-01"}).saved == {KEY: b"7-1"}


@pytest.mark.parametrize(
    ("from_beginning", "start", "expected"),
    [
        (False, None, (b"$", b"$")),
        (True, None, (BEGINNING, BEGINNING)),
        (False, "30-0", (b"30-0", b"30-0")),
        (False, {KEY.decode(): "30-0"}, (b"30-0", BEGINNING)),
    ],
)
def test_a_group_begins_where_a_reading_would(
    from_beginning: bool, start: object, expected: tuple[bytes, bytes]
) -> None:
    begin = start_of(PREFIX, from_beginning, start)  # type: ignore[arg-type]
    assert (begin.group_id(KEY), begin.group_id(OTHER)) == expected


@pytest.mark.parametrize(
    ("entry_id", "before"),
    [(b"5-3", b"5-2"), (b"5-0", b"4-18446744073709551615"), (b"0-1", b"0-0"), (b"0-0", b"0-0")],
)
def test_the_id_before(entry_id: bytes, before: bytes) -> None:
    assert id_before(entry_id) == before
    assert entry_id == before or id_parts(before) < id_parts(entry_id)
