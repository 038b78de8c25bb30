"""What of the state of the streams belongs in a table, and what is wrong in it."""

from __future__ import annotations

import pytest

from hsm_tools.dashboard.data.counts_table import By, rows
from hsm_tools.dashboard.data.problems import Problem, Severity, problems
from hsm_tools.dashboard.data.streams_state import read_anew, vanished
from hsm_tools.live_state.health import worker_health
from tests.support.dashboards import heartbeat, mdt_state, state

NOW_S = 10_000.0
A, B = "elm-MDT0000", "elm-MDT0001"
GROUPS = {(A, "ARCHIVE", "WAITING"): 5, (A, "RESTORE", "WAITING"): 2, (B, "ARCHIVE", "STARTED"): 3}


@pytest.mark.parametrize(
    ("by", "counts"),
    [
        (By.MDT, {(A,): 7, (B,): 3}),
        (By.ACTION, {("ARCHIVE",): 8, ("RESTORE",): 2}),
        (By.STATUS, {("STARTED",): 3, ("WAITING",): 7}),
        (By.HOST, {("mds1",): 7, ("mds2",): 3}),
        (By.ALL, GROUPS),
    ],
)
def test_rows_are_sums_of_groups(by: By, counts: dict[tuple[str, ...], int]) -> None:
    mdts = [mdt_state(mdt, NOW_S, heartbeat(mdt, host=host)) for mdt, host in ((A, "mds1"), (B, "mds2"))]
    assert {row.names: row.live for row in rows(state(GROUPS, NOW_S, *mdts), None, by)} == counts


def test_differences_are_of_what_a_row_sums_up() -> None:
    before = state({(A, "ARCHIVE", "WAITING"): 6, (A, "ARCHIVE", "STARTED"): 4}, NOW_S)
    after = state({(A, "ARCHIVE", "WAITING"): 4, (A, "ARCHIVE", "STARTED"): 7}, NOW_S)
    assert [(row.names, row.diff) for row in rows(after, before, By.MDT)] == [((A,), 1)]
    assert [row.diff for row in rows(after, before)] == [3, -2]
    assert [row.diff for row in rows(after, None)] == [0, 0]


def test_an_mdt_without_a_heartbeat_has_no_host() -> None:
    mdt = mdt_state(A, NOW_S)._replace(heartbeat=None, health=worker_health(None, NOW_S))
    [row] = rows(state({(A, "ARCHIVE", "WAITING"): 1}, NOW_S, mdt), None, By.HOST)
    assert row.names == ("(no heartbeat)",)


def test_an_unreadable_heartbeat_is_not_a_missing_one() -> None:
    health = worker_health(None, NOW_S, "heartbeat cannot be read: no permission")
    mdts = [mdt_state(mdt, NOW_S)._replace(heartbeat=None, health=health) for mdt in (A, B)]
    shown = state({(A, "ARCHIVE", "WAITING"): 1}, NOW_S, *mdts)
    what = "heartbeat cannot be read: no permission; whether it is polled is not known"
    assert problems(shown) == [Problem(Severity.ODD, (A, B), what)]
    [row] = rows(shown, None, By.HOST)
    assert row.names == ("(heartbeat unreadable)",)


def test_a_stream_that_vanished_is_missed_until_it_is_back() -> None:
    there = state({}, NOW_S, mdt_state(A, NOW_S), mdt_state(B, NOW_S))
    gone = vanished(there, [mdt_state(A, NOW_S)], NOW_S)
    assert gone == {B: NOW_S}
    later = state({}, NOW_S + 60, mdt_state(A, NOW_S), gone=gone)
    assert vanished(later, [mdt_state(A, NOW_S)], NOW_S + 60) == {B: NOW_S}
    [problem] = problems(later)
    assert str(problem) == f"{B}: its stream vanished 1m 0s ago (server flushed, or stream removed)"
    assert vanished(later, [mdt_state(A, NOW_S), mdt_state(B, NOW_S)], NOW_S + 60) == {}


def test_a_stream_that_is_there_and_empty_has_vanished_too() -> None:
    there = state({}, NOW_S, mdt_state(A, NOW_S))
    assert vanished(there, [mdt_state(A, NOW_S, last_event_at=None)], NOW_S) == {A: NOW_S}
    assert vanished(None, [mdt_state(A, NOW_S, last_event_at=None)], NOW_S) == {}


def test_a_stream_of_which_less_is_folded_than_before_was_read_anew() -> None:
    before = state({}, NOW_S, mdt_state(A, NOW_S, entries=10), mdt_state(B, NOW_S, entries=10))
    assert read_anew(before, [mdt_state(A, NOW_S, entries=3), mdt_state(B, NOW_S, entries=11)]) == [A]


def test_the_worst_comes_first_and_stale_shippers_are_one_problem() -> None:
    mdts = [
        mdt_state(A, NOW_S, heartbeat(A, last_poll_at=NOW_S, copytools=[])),
        *(
            mdt_state(mdt, NOW_S, heartbeat(mdt, last_poll_at=NOW_S - at))
            for mdt, at in ((B, 100), ("elm-MDT0002", 200))
        ),
    ]
    assert problems(state({}, NOW_S, *mdts)) == [
        Problem(Severity.BAD, (B, "elm-MDT0002"), "shipper stale, last poll 3m 20s ago"),
        Problem(Severity.ODD, (A,), "no copytool"),
    ]


def test_rates_are_of_the_newest_steps() -> None:
    arrivals = (0,) * 354 + (0, 0, 0, 0, 10, 50)
    shown = state({}, NOW_S, arrivals=arrivals)
    assert shown.rate(10) == 5.0
    assert shown.rate(60) == 1.0
