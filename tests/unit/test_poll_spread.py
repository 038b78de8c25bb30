"""When an MDT has its turn: apart from its neighbours, the same after every start, and not at once after the first."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.worker.poll_spread import first_tick_s, share_of_interval

_STARTS = st.floats(0, 1e7)
_INTERVALS = st.floats(0.1, 3600)


def gaps(shares: list[float]) -> list[float]:
    """How far apart they are on the circle."""
    ordered = sorted(shares)
    return [after - before for before, after in itertools.pairwise([*ordered, ordered[0] + 1.0])]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 8, 16], ids="every {}".format)
@pytest.mark.parametrize("count", [2, 4, 8, 16, 32])
def test_neighbours_have_their_turns_apart(count: int, step: int) -> None:
    apart = gaps([share_of_interval(f"elm-MDT{number * step:04x}") for number in range(count)])
    assert min(apart) > 0.25 / count


def test_file_systems_begin_at_moments_of_their_own() -> None:
    assert min(gaps([share_of_interval(f"{name}-MDT0000") for name in ("elm", "oak", "ash", "a-b", "fir")])) > 0.01


@given(started_s=_STARTS, interval_s=_INTERVALS, share=st.floats(0, 1, exclude_max=True))
def test_the_first_turn_comes_between_a_half_and_one_and_a_half_intervals(
    started_s: float, interval_s: float, share: float
) -> None:
    after_s = first_tick_s(started_s, interval_s, share) - started_s
    assert 0.5 * interval_s - 1e-6 <= after_s <= 1.5 * interval_s + 1e-6


@given(first_s=_STARTS, again_s=_STARTS, interval_s=_INTERVALS)
def test_a_worker_that_is_started_again_keeps_its_turn(first_s: float, again_s: float, interval_s: float) -> None:
    share = share_of_interval("elm-MDT0007")
    between = (first_tick_s(first_s, interval_s, share) - first_tick_s(again_s, interval_s, share)) / interval_s
    assert math.isclose(between, round(between), abs_tol=1e-4)


def test_sixteen_workers_that_start_together_poll_apart_from_their_second_poll_on() -> None:
    ticks = [first_tick_s(5000.0, 20.0, share_of_interval(f"elm-MDT{number:04x}")) for number in range(16)]
    apart = [after - before for before, after in itertools.pairwise(sorted(ticks))]
    assert min(apart) > 0.6 and max(apart) < 2.5
    assert min(ticks) >= 5010.0 and max(ticks) < 5030.0
