"""When a stream has grown too long to wait for its time."""

from __future__ import annotations

from hsm_shipper.contract.trim_bound import length_bound
from hsm_shipper.maintenance.length_watch import LONGEST_WAIT_S, LengthWatch

MDT = "elm-MDT0000"


def test_twice_as_long_as_a_run_would_leave_it() -> None:
    growth = LengthWatch(20.0)
    assert growth.limit(MDT, live=100) == 2 * length_bound(100)
    assert growth.may_run(MDT, now=0.0)


def test_what_a_consumer_group_keeps_is_not_too_long() -> None:
    growth = LengthWatch(20.0)
    growth.ran(MDT, kept=60_000, live=100, refreshed=0, length=60_000, now=0.0)
    assert growth.limit(MDT, live=100) == 120_000 and growth.may_run(MDT, now=0.0)
    # What waits for a refresh is.
    growth.ran(MDT, kept=60_000, live=100, refreshed=5, length=60_000, now=0.0)
    assert growth.limit(MDT, live=100) == 2 * length_bound(100)
    growth.ran(MDT, kept=300, live=100, refreshed=0, length=300, now=0.0)
    assert growth.limit(MDT, live=100) == 2 * length_bound(100)


def test_runs_that_change_nothing_become_seldom() -> None:
    """The worker is stopped, and somebody else's entries lie behind what it has read."""
    growth = LengthWatch(20.0)
    now = 1000.0
    waits = []
    for _ in range(12):
        growth.ran(MDT, kept=100, live=100, refreshed=0, length=60_000, now=now)
        assert not growth.may_run(MDT, now)
        wait_s = next(wait_s for wait_s in range(0, 7200, 10) if growth.may_run(MDT, now + wait_s))
        waits.append(wait_s)
        now += wait_s
    assert waits[:3] == [40, 80, 160] and waits[-1] == LONGEST_WAIT_S
    growth.ran(MDT, kept=100, live=100, refreshed=0, length=100, now=now)
    assert growth.may_run(MDT, now)


def test_one_that_left_is_forgotten() -> None:
    growth = LengthWatch(20.0)
    growth.ran(MDT, kept=60_000, live=0, refreshed=0, length=60_000, now=0.0)
    growth.forget(MDT)
    assert growth.limit(MDT, live=0) == 2 * length_bound(0)
