"""What an outage of Redis cost."""

from __future__ import annotations

from hsm_shipper.worker.missed_states import MissedStates

A, B, C = b"a", b"b", b"c"


def outage(*polls: set[bytes]) -> MissedStates:
    """An outage whose complete readings saw these new lines, and could ship none."""
    result = MissedStates()
    for unshipped in polls:
        result.failed(unshipped, set(), complete=True)
    return result


def test_polls_that_could_not_ship_are_counted() -> None:
    assert not outage()
    result = outage({A}, {A})
    assert result
    assert (result.polls, result.states_missed) == (2, 0)


def test_a_state_that_came_and_went_is_missed_once() -> None:
    result = outage({A, B}, {A}, {A})
    assert result.states_missed == 1
    result.ended({A})
    assert result.states_missed == 1


def test_a_state_that_stayed_and_was_shipped_in_the_end_is_not_missed() -> None:
    result = outage({A}, {A})
    result.ended({A})
    assert result.states_missed == 0


def test_a_state_that_went_before_the_first_poll_that_shipped_is_missed() -> None:
    result = outage({A, B})
    result.ended({B, C})
    assert result.states_missed == 1


def test_a_state_that_the_stream_turned_out_to_have_is_not_missed() -> None:
    result = MissedStates()
    result.failed({A}, set(), complete=True)
    result.failed(set(), {A}, complete=True)  # its reply was lost, and it was shipped
    assert result.states_missed == 0


def test_an_incomplete_reading_proves_nothing_gone_but_adds_what_it_saw() -> None:
    result = outage({A})
    result.failed({B}, set(), complete=False)
    assert result.states_missed == 0
    result.failed(set(), set(), complete=True)
    assert result.states_missed == 2


def test_what_was_counted_is_not_counted_again_at_the_end() -> None:
    result = outage({A, B}, {B})
    for _ in range(2):
        result.ended(set())
        assert result.states_missed == 2
