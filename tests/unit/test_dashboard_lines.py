"""Lines of the dashboard: the sparkline, the progress bar, what fits in a width."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from hsm_tools.dashboard.data.streams_state import StreamsState
from hsm_tools.dashboard.data.view_updater import ReplayProgress, StreamsView
from hsm_tools.dashboard.text_frame import Connection
from hsm_tools.dashboard.widgets.header import events_line, health_lines, joined, problem_lines, progress_line
from hsm_tools.dashboard.widgets.lines import Line, Span, fitted, folded, line
from hsm_tools.live_state.health import worker_health
from tests.support.dashboards import COPYTOOL, heartbeat, mdt_state, state

NOW_S = 10_000.0


def text(shown: Line) -> str:
    return "".join(span.text for span in shown)


def bar(shown: StreamsState, width: int, *, ascii_only: bool = False) -> str:
    return text(events_line(shown, width, ascii_only=ascii_only)).split("|")[1]


def test_the_sparkline_has_the_newest_on_the_right_and_shows_the_least() -> None:
    shown = state({}, NOW_S, arrivals=(0,) * 356 + (1, 100, 0, 50))
    assert bar(shown, 80).endswith(" ▁█ ▄")
    assert bar(shown, 80, ascii_only=True).endswith(" .@ =")
    assert text(events_line(shown, 80, ascii_only=False)).startswith("Events: 5.0/s (10s) 2.5/s (1m) |")


@pytest.mark.parametrize("most", [0, 1, 99_999_999])
@pytest.mark.parametrize("width", [80, 81, 132, 400])
def test_the_sparkline_fits_its_line(width: int, most: int) -> None:
    shown = state({}, NOW_S, arrivals=(most,) * 360)
    assert len(text(events_line(shown, width, ascii_only=False))) <= width


@pytest.mark.parametrize("width", [1, 20])
def test_where_there_is_no_room_the_sparkline_is_but_short(width: int) -> None:
    assert len(bar(state({}, NOW_S), width)) == 1


def test_the_bar_of_a_replay() -> None:
    assert text(progress_line(ReplayProgress(250, 1000))) == f"[{'#' * 10}{' ' * 30}] 250 of 1,000 entries"
    assert text(progress_line(ReplayProgress(2000, 1000))) == f"[{'#' * 40}] 1,000 of 1,000 entries"


def test_parts_of_a_line_take_as_many_lines_as_they_need() -> None:
    parts = [["12345"], ["678"], ["90"]]
    assert [text(shown) for shown in joined(parts, 80)] == ["12345 | 678 | 90"]
    assert [text(shown) for shown in joined(parts, 11)] == ["12345 | 678", "90"]
    assert [text(shown) for shown in joined(parts, 1)] == ["12345", "678", "90"]


def test_workers_and_coordinators_are_counted_by_how_they_are() -> None:
    beats = [
        heartbeat("a-MDT0000", last_poll_at=NOW_S),
        heartbeat("a-MDT0001", last_poll_at=NOW_S - 500, hsm_control="stopped"),
        heartbeat("a-MDT0002", last_poll_at=NOW_S, hsm_control=None, copytools=None),
    ]
    mdts = [mdt_state(beat.mdt, NOW_S, beat) for beat in beats]
    mdts.append(mdt_state("a-MDT0003", NOW_S)._replace(heartbeat=None, health=worker_health(None, NOW_S)))
    assert [text(shown) for shown in health_lines(state({}, NOW_S, *mdts), 200)] == [
        "Workers: 2 polling, 1 stale, 1 missing | Coordinators: 1 enabled, 1 stopped, 1 unknown | Copytools: 1, 1 busy"
    ]
    assert [text(shown) for shown in health_lines(state({}, NOW_S), 200)] == [
        "Workers: 0 polling | Coordinators: unknown | Copytools: unknown"
    ]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"copytools": None}, "Copytools: unknown"),
        ({"copytools": []}, "Copytools: 0, 0 busy"),
        ({"copytools": [], "agents_not_understood": 2}, "Copytools: 0, 0 busy, 2 not understood"),
        ({"copytools": [structs.replace(COPYTOOL, current=-5)]}, "Copytools: 1, 0 busy"),  # it has registered again
    ],
)
def test_of_copytools_it_shows_what_is_known(changes: dict[str, Any], shown: str) -> None:
    beat = heartbeat("a-MDT0000", last_poll_at=NOW_S, **changes)
    [lines] = health_lines(state({}, NOW_S, mdt_state(beat.mdt, NOW_S, beat)), 200)
    assert text(lines).endswith(f" | {shown}")


def test_problems_that_do_not_fit_are_counted() -> None:
    mdts = [mdt_state(f"a-MDT{n:04x}", NOW_S, malformed=n) for n in range(1, 6)]
    view = StreamsView(
        state({}, NOW_S, *mdts), connection=Connection(NOW_S, "gone"), remarks=((NOW_S, "x\x1b"), (0.0, "old"))
    )
    assert [text(shown) for shown in problem_lines(view, NOW_S, 80, 3)][:2] == [
        "ALERT gone",
        "WARN  a-MDT0001: 1 malformed entry passed over",
    ]
    assert text(problem_lines(view, NOW_S, 80, 3)[2]) == "... and 5 more (m shows the MDTs)"
    assert [text(shown) for shown in problem_lines(view, NOW_S, 80, 1)] == ["ALERT gone"]
    assert text(problem_lines(view, NOW_S, 80, 9)[-1]).endswith(" x\\x1b")


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        ("short", 8, "short   "),
        ("too long a name", 8, "too lon~"),
        ("二二二", 4, "二 ~"),
        ("二二二", 5, "二二~"),
        ("", 3, "   "),
        ("x", 0, ""),
    ],
)
def test_a_cell_is_exactly_as_wide_as_its_column(name: str, width: int, shown: str) -> None:
    assert fitted(name, width) == shown


def test_of_a_path_the_end_is_kept() -> None:
    assert fitted("/lustre/project/x.dat", 10, keep_end=True) == "~ect/x.dat"
    assert fitted("/l/二二.dat", 7, keep_end=True) == "~二.dat"
    assert fitted("/l/二", 4, keep_end=True) == "~/二", "a letter of two columns is cut by one"
    assert fitted("/l/x", 6, keep_end=True) == "/l/x  "
    assert fitted("/l/x", 0, keep_end=True) == ""


def test_a_long_path_takes_some_lines_but_never_all_the_screen() -> None:
    assert [text(shown) for shown in folded("/a/long/path", 5)] == ["/a/lo", "ng/pa", "th"]
    assert len(folded("x" * 10_000, 80)) == 4
    assert text(folded("\x1b[2J", 80)[0]) == "\\x1b[2J"


def test_numbers_are_on_the_right() -> None:
    assert fitted("42", 5, right=True) == "   42"
    assert fitted("二", 5, right=True) == "   二"


def test_a_line_is_made_fit_for_a_terminal() -> None:
    assert line("\x1b[2J", Span("\n")) == (Span("\\x1b[2J"), Span("\\x0a"))
