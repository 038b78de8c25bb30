"""Events leave in their order, with their paths or when their time is over."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hsm_tools.fid_paths.paths import PENDING, Pending
from hsm_tools.tailing.hold_back import HoldBack

Answers = dict[int, "str | Pending | None"]


def held_by(answers: Answers, capacity: float = math.inf) -> HoldBack[int]:
    return HoldBack(lambda _item: None, lambda item: answers.get(item, PENDING), 0.5, capacity)


def test_the_first_holds_back_the_others_until_its_path_is_known() -> None:
    answers: Answers = {2: "/b"}
    held = held_by(answers)
    held.put([1, 2, 3], 10.0)
    assert list(held.leaving(10.1)) == []
    assert held.due_s == 10.5
    answers[1] = "/a"
    assert list(held.leaving(10.2)) == [(1, "/a"), (2, "/b")]
    assert len(held) == 1


def test_nothing_waits_longer_than_it_may() -> None:
    held = held_by({})
    held.put([1], 10.0)
    held.put([2], 10.3)
    assert list(held.leaving(10.49)) == []
    assert list(held.leaving(10.5)) == [(1, None)]
    assert list(held.leaving(10.8)) == [(2, None)]
    assert held.due_s is None


def test_an_answer_that_there_is_no_path_ends_the_waiting() -> None:
    held = held_by({1: None})
    held.put([1], 10.0)
    assert list(held.leaving(10.0)) == [(1, None)]


def test_more_than_the_capacity_does_not_wait() -> None:
    held = held_by({4: "/d"}, capacity=2)
    held.put([1, 2, 3, 4], 10.0)
    assert list(held.leaving(10.0)) == [(1, None), (2, None)]
    assert len(held) == 2


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=4), st.floats(0, 1)), max_size=20),
    st.dictionaries(st.integers(0, 9), st.none() | st.just("/p"), max_size=5),
    st.integers(0, 5),
)
def test_the_order_never_changes_and_the_bound_always_holds(
    arrivals: list[tuple[list[int], float]], answers: dict[int, str | None], capacity: int
) -> None:
    known: Answers = {**answers}
    held: HoldBack[tuple[int, float]] = HoldBack(
        lambda _item: None, lambda item: known.get(item[0], PENDING), 0.5, capacity
    )
    now_s, sent, left = 0.0, [], []
    for items, pause_s in arrivals:
        now_s += pause_s
        stamped = [(item, now_s) for item in items]
        held.put(stamped, now_s)
        sent += stamped
        left += [item for item, _path in held.leaving(now_s)]
        assert left == sent[: len(left)]
        assert all(now_s - at_s < 0.5 for _item, at_s in sent[len(left) :])
        assert len(held) <= capacity
    left += [item for item, _path in held.leaving(now_s + 0.5)]
    assert left == sent
