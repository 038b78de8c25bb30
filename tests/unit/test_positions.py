"""Positions: what the server's counters tell of entries that a reader did not see."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hsm_tools.reader.positions import BEGINNING, GroupProgress, Position, StreamInfo, id_parts


class Stream:
    """A stream as the server keeps it, reduced to what positions are about."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.added = 0

    def add(self, count: int) -> None:
        self.ids += range(self.added + 1, self.added + count + 1)
        self.added += count

    def after(self, entry_id: bytes, count: int) -> list[int]:
        return [i for i in self.ids if i > id_parts(entry_id)[0]][:count]

    @property
    def info(self) -> StreamInfo:
        return StreamInfo(_id(self.added), len(self.ids), self.added, _id(self.ids[0]) if self.ids else None)


def _id(n: int) -> bytes:
    return b"%d-0" % n


_steps = st.lists(
    st.tuples(st.sampled_from(["add", "trim", "delete", "read", "look"]), st.integers(min_value=0, max_value=12)),
    max_size=60,
)


@given(before=st.integers(0, 20), trimmed=st.integers(0, 20), from_beginning=st.booleans(), steps=_steps)
def test_every_entry_removed_unread_is_counted_once(
    before: int, trimmed: int, from_beginning: bool, steps: list[tuple[str, int]]
) -> None:
    stream = Stream()
    stream.add(before)
    del stream.ids[:trimmed]
    position = Position.at_beginning(stream.info) if from_beginning else Position.at_end(stream.info)
    wanted = set(stream.ids) if from_beginning else set()
    read: list[int] = []
    missed = 0

    def read_page(count: int) -> None:
        page = stream.after(position.id, count)
        if page:
            position.advance(_id(page[-1]), len(page))
            read.extend(page)

    for step, n in steps:
        if step == "add":
            wanted |= set(range(stream.added + 1, stream.added + n + 1))
            stream.add(n)
        elif step == "trim":
            del stream.ids[:n]
        elif step == "delete" and n < len(stream.ids):
            del stream.ids[n]
        elif step == "read":
            read_page(n)
        elif step == "look":
            assert not position.went_back(stream.info)
            missed += position.missed(stream.info)
        assert missed <= len(wanted - set(read)), "more reported than are missing"
    read_page(stream.added + 1)
    stream.add(1)  # the position is exact only at the last id: a deleted newest entry keeps it from there
    read_page(1)
    missed += position.missed(stream.info)
    assert missed == len(wanted - set(read))
    assert position.missed(stream.info) == 0


def test_ids_compare_as_numbers() -> None:
    position = Position.at_end(StreamInfo(b"999-2", 1, None))
    assert not position.went_back(StreamInfo(b"1000-0", 1, None))
    assert not position.went_back(StreamInfo(b"999-10", 1, None))
    assert position.went_back(StreamInfo(b"999-1", 1, None))


def test_a_lower_count_is_a_new_history_even_with_newer_ids() -> None:
    position = Position.at_end(StreamInfo(b"100-0", 40, 50))
    assert position.went_back(StreamInfo(b"200-0", 7, 7))


def test_landmarks_lead_back_to_what_survived_a_rollback() -> None:
    position = Position.at_beginning(StreamInfo(b"0-0", 0, 0))
    for last_id in (b"10-0", b"20-0", b"30-0", b"40-0"):
        position.advance(last_id, 5)
    rolled_back = StreamInfo(b"33-0", 16, 16)
    assert position.went_back(rolled_back)
    assert position.landmarks(rolled_back) == [b"30-0", b"20-0", b"10-0"]
    position.rewind(b"20-0")
    assert position.id == b"20-0"
    assert position.landmarks(rolled_back) == [b"20-0", b"10-0"]
    assert not position.went_back(rolled_back)
    assert position.missed(rolled_back) == 0
    position.advance(b"33-0", 6)
    assert position.missed(rolled_back) == 0
    assert position.missed(StreamInfo(b"50-0", 0, 20)) == 4


def test_landmarks_are_bounded() -> None:
    position = Position.before_birth()
    for n in range(1, 10_000):
        position.advance(_id(n), 1)
    assert len(position.landmarks(StreamInfo(_id(10_000), 10_000, 10_000))) == 64


def test_after_a_deletion_every_entry_is_new() -> None:
    position = Position.at_end(StreamInfo(b"50-0", 3, 3))
    position.forget()
    assert (position.id, position.exists) == (BEGINNING, False)
    reborn = StreamInfo(b"7-0", 2, 5)
    assert not position.went_back(reborn)
    assert position.missed(reborn) == 3, "it was trimmed before it was seen again"


def test_a_server_without_entries_added_tells_each_gap_once() -> None:
    position = Position(b"2-0", None)
    assert not position.overtaken(StreamInfo(b"9-0", 8, None, b"2-0"))
    assert position.overtaken(StreamInfo(b"9-0", 3, None, b"7-0"))
    assert not position.overtaken(StreamInfo(b"9-0", 4, None, b"7-0"))
    assert position.overtaken(StreamInfo(b"9-0", 0, None)) and position.id == b"9-0"
    assert not position.overtaken(StreamInfo(b"9-0", 0, None))
    assert not Position(BEGINNING, None).overtaken(StreamInfo(b"9-0", 1, None, b"9-0"))


def test_a_server_without_entries_added_counts_nothing() -> None:
    position = Position.at_beginning(StreamInfo(b"9-0", 9, None))
    position.advance(b"5-0", 5)
    assert position.missed(StreamInfo(b"20-0", 1, None)) == 0
    assert position.missed(StreamInfo(b"20-0", 1, 20)) == 0, "nothing to compare with yet"


class Group:
    """A consumer group as a server keeps it; Redis 7.0 `adds_up` what it gives."""

    def __init__(self, stream: Stream, *, adds_up: bool) -> None:
        self._stream = stream
        self._adds_up = adds_up
        self._read = stream.added
        self.at = stream.added

    def give(self, count: int) -> list[int]:
        given = self._stream.after(_id(self.at), count)
        if given:
            self.at = given[-1]
            self._read = self._read + len(given) if self._adds_up else self.at
        return given

    @property
    def told(self) -> dict[bytes, object]:
        return {b"name": b"g", b"last-delivered-id": _id(self.at), b"entries-read": self._read}


@given(before=st.integers(0, 20), adds_up=st.booleans(), steps=_steps)
def test_what_no_consumer_of_a_group_was_given_is_counted_once(
    before: int, adds_up: bool, steps: list[tuple[str, int]]
) -> None:
    stream = Stream()
    stream.add(before)
    group, progress = Group(stream, adds_up=adds_up), GroupProgress()
    wanted: set[int] = set()
    given: list[int] = []
    counted = 0
    for step, n in steps:
        if step == "add":
            wanted |= set(range(stream.added + 1, stream.added + n + 1))
            stream.add(n)
        elif step == "trim":
            del stream.ids[:n]
            counted += progress.removed_unread(group.told, stream.info)
            assert counted == len({entry for entry in wanted - set(given) if entry not in stream.ids})
        elif step == "read":
            given += group.give(stream.added)  # to the end: where it stops before it, Redis 7.0 is believed
            counted += progress.removed_unread(group.told, stream.info)
            assert wanted == {*given} or counted == len(wanted - set(given))


def test_a_server_that_does_not_know_how_far_a_group_is_counts_nothing() -> None:
    behind = {b"last-delivered-id": b"1-0", b"entries-read": None}
    assert GroupProgress().removed_unread(behind, StreamInfo(b"9-0", 1, 9, b"9-0")) == 0
    assert GroupProgress().removed_unread({b"last-delivered-id": b"1-0"}, StreamInfo(b"9-0", 1, None, b"9-0")) == 0
