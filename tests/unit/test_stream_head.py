"""What the head of a stream tells of entries that it has lost: every way to trim and to delete, against the truth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.contract.stream_head import Head, has_losses
from hsm_shipper.contract.stream_ids import pack_id


class Stream:
    """A stream that does as Redis does, and what it says of itself."""

    def __init__(self, entries: int, *, tells_deletions: bool = True) -> None:
        self.ids = list(range(1, entries + 1))
        self.last = entries
        self.max_deleted = 0
        self.tells_deletions = tells_deletions

    def add(self) -> None:
        self.last += 1
        self.ids.append(self.last)

    def delete(self, entry: int) -> None:
        self.ids.remove(entry)
        self.max_deleted = max(self.max_deleted, entry)

    def trim(self, min_id: int) -> None:
        self.ids = [entry for entry in self.ids if entry >= min_id]

    def head(self) -> Head:
        newest, first = (f"{self.ids[-1]}-0", f"{self.ids[0]}-0") if self.ids else (None, None)
        deleted = f"{self.max_deleted}-0" if self.tells_deletions else None
        return Head(f"{self.last}-0", newest, None, first, len(self.ids), deleted)


def needs(entries: set[int]) -> Callable[[str | None], bool]:
    """Live actions need these entries."""

    def needs_before(entry_id: str | None) -> bool:
        return bool(entries) if entry_id is None else any(pack_id(f"{e}-0") < pack_id(entry_id) for e in entries)

    return needs_before


STEPS = st.lists(st.tuples(st.sampled_from(["add", "delete", "trim"]), st.integers(0, 30)), max_size=6)


@given(before=STEPS, since=STEPS, needed=st.sets(st.integers(0, 30)))
def test_whatever_is_trimmed_and_deleted_no_loss_of_a_needed_entry_stays_unseen(
    before: list[tuple[str, int]], since: list[tuple[str, int]], needed: set[int]
) -> None:
    stream = Stream(8)
    _change(stream, before)
    known = stream.head()
    needed_ids = {stream.ids[number % len(stream.ids)] for number in needed} if stream.ids else set()
    there = len(stream.ids), stream.last
    _change(stream, since)
    lost = has_losses(known, stream.head(), stream.last - there[1], needs(needed_ids))
    if needed_ids - set(stream.ids):
        assert lost


@given(before=STEPS, added=st.integers(0, 3), trimmed_to=st.integers(0, 30), needed=st.sets(st.integers(0, 30)))
def test_a_trim_that_leaves_what_is_needed_is_no_loss(
    before: list[tuple[str, int]], added: int, trimmed_to: int, needed: set[int]
) -> None:
    stream = Stream(8)
    _change(stream, [step for step in before if step[0] != "delete"])
    known = stream.head()
    needed_ids = {stream.ids[number % len(stream.ids)] for number in needed} if stream.ids else set()
    for _ in range(added):
        stream.add()
    stream.trim(min(needed_ids, default=trimmed_to))
    assert not has_losses(known, stream.head(), added, needs(needed_ids))


def _change(stream: Stream, steps: list[tuple[str, int]]) -> None:
    for what, number in steps:
        if what == "add":
            stream.add()
        elif what == "trim":
            stream.trim(number)
        elif stream.ids:
            stream.delete(stream.ids[number % len(stream.ids)])


def test_a_server_that_does_not_tell_of_deletions_is_believed_by_the_number_of_entries() -> None:
    stream = Stream(8, tells_deletions=False)
    known = stream.head()
    stream.delete(4)
    assert has_losses(known, stream.head(), 0, lambda _: False)


def test_a_front_that_goes_back_is_another_stream_with_the_same_end() -> None:
    stream = Stream(8, tells_deletions=False)
    before = stream.head()
    stream.trim(3)
    assert has_losses(stream.head(), before, 0, lambda _: False)
    assert not has_losses(before, stream.head(), 0, lambda _: False)


@pytest.mark.parametrize("needed", [False, True])
def test_a_head_of_an_earlier_release_is_compared_by_what_is_needed_alone(needed: bool) -> None:
    head = Stream(8).head()
    assert has_losses(Head(*head.end), head, 0, lambda _: needed) == needed
