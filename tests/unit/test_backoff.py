"""Waiting ever longer for what goes on failing."""

from __future__ import annotations

from hsm_shipper.process.backoff import backoff_s


def test_each_failure_doubles_the_wait_up_to_a_bound() -> None:
    assert [backoff_s(failures, 5.0, 60.0) for failures in range(1, 7)] == [5, 10, 20, 40, 60, 60]


def test_what_never_works_again_is_waited_for_no_longer_than_that() -> None:
    assert backoff_s(10**9, 0.1, 30.0) == 30.0


def test_a_first_wait_beyond_the_bound_is_the_bound() -> None:
    assert backoff_s(1, 7200.0, 3600.0) == 3600.0
