"""A fold that is kept in the state file page by page is the fold that is held whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm_shipper.contract.fold import ActionFold, Entry, Folded, Observer
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import ReplayOvertaken
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.line_index import LineIndex
from tests.support.core import earlier_event, line, place, rows
from tests.support.histories import Page, end, events, ours, page
from tests.support.states import refill

HEAD = Head("9-0", None, None)


class Counting(Observer):
    """Counts events and malformed entries."""

    def __init__(self) -> None:
        self.events = self.malformed = 0

    def page_folded(self, _page: list[Entry], folded: list[Folded], malformed: list[bytes], /) -> None:  # type: ignore[override]
        self.events += len(folded)
        self.malformed += len(malformed)


def store(cache: StateFile, *pages: Page, anew: bool = True, index: Any = LineIndex) -> Counting:
    """Fold pages into the state file."""
    counting = Counting()
    with cache.transaction():
        fold = cache.fold(counting, anew=anew)
        for one in pages:
            fold.fold_page(one)
        cache.folded(HEAD, index)
    return counting


def overtaken(*_: object) -> LineIndex:
    """Goes wrong at the last moment."""
    raise ReplayOvertaken("a trim")


def whole(*pages: Page) -> ActionFold:
    """The same, held whole."""
    live = ActionFold()
    for one in pages:
        live.fold_page(one)
    return live


def by_key(rec: int) -> dict[str, Any]:
    """The end of an action as earlier shippers told it."""
    return {"event_type": "PURGED", "action_key": f"0x200000401:{rec:#x}:0x0:ARCHIVE"}


def each(*told: dict[str, Any] | bytes) -> list[Page]:
    """A page for each event."""
    return [[entry] for entry in page(*told)]


def test_any_history_comes_to_the_same_however_far_it_was_known(cache: StateFile) -> None:
    @given(st.lists(st.lists(events(), max_size=6), max_size=6), st.integers(0, 6))
    @settings(max_examples=150, deadline=None)
    def comes_to_the_same(history: list[list[Any]], known: int) -> None:
        numbered = iter(page(*(event for told in history for event in told)))
        pages = [[next(numbered) for _ in told] for told in history]
        first = store(cache, *pages[:known])
        assert rows(cache.live_actions()) == rows(whole(*pages[:known]))
        more = store(cache, *pages[known:], anew=False)
        assert rows(cache.live_actions()) == rows(whole(*pages))
        assert first.events + first.malformed + more.events + more.malformed == sum(map(len, pages))
        assert len(cache.load(LineIndex).line_index) == len(whole(*pages)), "and the sum over all rows is right"

    comes_to_the_same()


@pytest.mark.parametrize(
    "told",
    [
        [ours(1), by_key(1)],
        [ours(1), ours(2), by_key(1), ours(1), by_key(2)],
        [ours(1), ours(1, number=9), end(1)],
        [ours(1), ours(1, number=9), end(1, number=9)],
        [earlier_event(line(1)) | {"timestamp": 5}, earlier_event(line(1, "STARTED"), "UPDATE") | {"timestamp": 7}],
        [ours(1), ours(1, "STARTED", "UPDATE", 1060, first_seen=None)],
        [ours(1), ours(1, "WAITING", "UPDATE", 1060, status_since=None)],
    ],
    ids=["a key", "keys", "a late end", "an end", "times that are not told", "nor one", "nor the other"],
)
def test_what_an_earlier_page_said_decides(cache: StateFile, told: list[dict[str, Any]]) -> None:
    pages = each(*told)
    store(cache, *pages)
    assert rows(cache.live_actions()) == rows(whole(*pages))


def test_a_place_that_a_page_fills_and_empties_is_empty(cache: StateFile) -> None:
    before, other = ours(1), ours(1, number=9) | {"fid": "0x1:0x1:0x0", "action_key": "0x1:0x1:0x0:ARCHIVE"}
    first, *rest = page(before, other, {"event_type": "PURGED", "action_key": "0x1:0x1:0x0:ARCHIVE"})
    store(cache, [first], rest)
    assert rows(cache.live_actions()) == rows(whole([first], rest)) == []


def test_what_was_known_is_gone_when_it_is_folded_anew(cache: StateFile) -> None:
    refill(cache, whole(page(ours(1), ours(2))), HEAD)
    cache.set_missed({place(1)})
    store(cache, page(ours(3)))
    head, index, missed, marked = cache.load(LineIndex)
    assert (head, len(index), missed, marked) == (HEAD, 1, set(), set())
    assert rows(cache.live_actions()) == rows(whole(page(ours(3))))


def test_a_fold_that_fails_leaves_no_trace(cache: StateFile) -> None:
    store(cache, page(ours(1), ours(2)))
    before = rows(cache.live_actions())
    with pytest.raises(ReplayOvertaken):
        store(cache, *each(ours(3), by_key(2)), index=overtaken)
    assert rows(cache.live_actions()) == before
    assert len(cache.load(LineIndex).line_index) == 2
    store(cache, *each(by_key(2)), anew=False)
    assert rows(cache.live_actions()) == rows(whole(page(ours(1))))


def test_only_what_a_page_speaks_of_is_read_and_written(cache: StateFile) -> None:
    statements: list[str] = []
    many = [ours(rec) for rec in range(1, 2001)]
    store(cache, page(*many))
    cache._connection.set_trace_callback(statements.append)
    store(cache, page(ours(7, "STARTED", "UPDATE", 1060)), anew=False)
    cache._connection.set_trace_callback(None)
    assert sum(statement.count("0x200000401") for statement in statements) == 1
