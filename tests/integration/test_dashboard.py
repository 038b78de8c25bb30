"""The dashboard of `hsm-action-top`, driven by its keys, on a real server."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hsm_tools.dashboard.data.update_thread import UpdateThread
from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.screens.actions import Actions
from hsm_tools.dashboard.screens.history import HistoryPage
from hsm_tools.dashboard.screens.overview import Overview
from hsm_tools.dashboard.screens.page import Page
from hsm_tools.dashboard.widgets.lines import plain
from tests.support.core import line
from tests.support.dashboard_driver import A, B, Driver, drive
from tests.support.dashboards import Streams, event
from tests.support.lustre import MOUNT, World


def test_the_first_page_has_the_frame_and_more(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        text = await top.shows("--- Lustre HSM Action Dashboard ---", "Listening for live updates...")
        assert "Redis: Connected" in text
        assert "Live Actions: 11 | Total Events Processed: 11 | Last Event: " in text
        assert "Oldest Live Action: 1h 6m (elm-MDT0000 RESTORE STARTED) | Interval: 0.1s" in text
        assert "Workers: 2 polling | Coordinators: 2 enabled | Copytools: 1, 1 busy" in text
        assert "Events: " in text
        assert [row[:4] for row in top.rows] == [
            [A, "ARCHIVE", "WAITING", "5"],
            [A, "RESTORE", "STARTED", "3"],
            [B, "ARCHIVE", "FAILED", "3"],
        ]
        streams.new(B, range(3, 5), "FAILED")
        await top.until(lambda: top.rows[2][3:5] == ["5", "(+2)"])

    drive(streams, scenario)


def test_the_options_filter_and_both_counts_are_told(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("Live Actions: 3 of 11 |")
        assert [row[:3] for row in top.rows] == [[A, "RESTORE", "STARTED"]]

    drive(streams, scenario, action=["restore"])


def test_sorting(streams: Streams) -> None:
    streams.new(B, range(10, 30), "CANCELED", action="REMOVE")

    async def scenario(top: Driver) -> None:
        await top.shows("REMOVE")
        orders = {}
        for _ in range(6):
            orders[plain(top.page.grid.heading).rpartition("by ")[2].strip()] = [row[2] for row in top.rows]
            await top.press("s")
        assert orders["ACTION"] == ["WAITING", "FAILED", "CANCELED", "STARTED"]
        assert orders["STATUS"] == ["CANCELED", "FAILED", "STARTED", "WAITING"]
        assert orders["COUNT"] == ["CANCELED", "WAITING", "STARTED", "FAILED"]
        assert orders["OLDEST"][0] == "STARTED"
        await top.press("R")
        assert [row[2] for row in top.rows] == ["CANCELED", "FAILED", "STARTED", "WAITING"]
        assert "reversed" in top.text

    drive(streams, scenario)


def test_the_page_is_drawn_before_anything_is_looked_at(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    start, draw = UpdateThread.start, Overview.draw

    def started(update_thread: UpdateThread) -> None:
        done.append("looks")
        start(update_thread)

    def drawn(page: Overview, view: StreamsView) -> None:
        done.append("draws")
        draw(page, view)

    mount = Page.on_mount

    def mounted_late(page: Page) -> None:
        page.dashboard._tick()  # as the clock does where the machine is busy
        mount(page)

    monkeypatch.setattr(UpdateThread, "start", started)
    monkeypatch.setattr(Overview, "draw", drawn)
    monkeypatch.setattr(Page, "on_mount", mounted_late)

    async def scenario(top: Driver) -> None:
        await top.shows("Listening for live updates...")

    drive(streams, scenario)
    assert done[0] == "draws"
    assert done.count("looks") == 1


def test_the_filter_works_as_it_is_typed_and_escape_clears_it(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        await top.press("f", *"0000 resT")
        await top.until(lambda: [row[2] for row in top.rows] == ["STARTED"])
        await top.press("enter", "g")
        assert top.rows[0][:2] == [A, "3"], "keys are keys again"
        await top.press("slash", *"[red]q")
        assert "No live action passes the filter" in top.text
        await top.press("escape", "g", "g", "g", "g", "g")
        assert len(top.rows) == 3

    drive(streams, scenario)


def test_grouping(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        seen = []
        for _ in range(6):
            await top.press("g")
            seen.append([row[:-2] for row in top.rows])
        assert seen[:5] == [
            [[A, "8"], [B, "3"]],
            [["ARCHIVE", "8"], ["RESTORE", "3"]],
            [["FAILED", "3"], ["STARTED", "3"], ["WAITING", "5"]],
            [["archive 7", "11"]],
            [["mds1", "8"], ["mds2", "3"]],
        ]
        assert len(seen[5]) == 3

    drive(streams, scenario)


def test_the_actions_of_an_archive_are_of_no_other(streams: Streams) -> None:
    streams.new(B, [40, 41], raw=line(40, archive_id=12).decode())
    streams.new(A, [50], raw=None)

    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        assert [A, "ARCHIVE", "WAITING", "6"] in [row[:4] for row in top.rows], "of two archives"
        await top.press("g", "g", "g", "g")
        assert [row[:2] for row in top.rows] == [["archive 7", "11"], ["archive 12", "2"], ["archive ?", "1"]]
        await top.press("down", "enter")
        await top.shows("--- Actions: archive 12 ---", "0x28:0x0", "0x29:0x0")
        assert len(top.rows) == 2
        await top.press("escape", "down", "enter")
        await top.shows("--- Actions: archive ? ---", "0x32:0x0")
        assert len(top.rows) == 1

    drive(streams, scenario)


def test_from_a_row_to_its_actions_to_a_history_and_back(streams: Streams) -> None:
    streams.add(A, event(A, 6, "UPDATE", "SUCCEED", action="RESTORE", first_seen=int(time.time()) - 4000, host="mds9"))

    async def scenario(top: Driver) -> None:
        await top.shows("SUCCEED")
        await top.press("s", "s")  # by status: FAILED, STARTED, SUCCEED, WAITING
        await top.press("down", "down", "enter")
        await top.until(lambda: isinstance(top.page, Actions) and "mds9" in top.text)
        assert "--- Actions: elm-MDT0000 RESTORE SUCCEED ---" in top.text
        [row] = top.rows
        assert "[0x200000401:0x6:0x0]" in row
        assert "7" in row, "the archive"
        assert "elm-MDT0000 1/6 cookie 0x6b020006" in top.text
        await top.press("enter")
        await top.until(lambda: isinstance(top.page, HistoryPage) and len(top.rows) == 2)
        assert [[cell for cell in row if cell][-4:-1] for row in top.rows] == [
            ["NEW", "STARTED", "mds1"],
            ["UPDATE", "SUCCEED", "mds9"],
        ]
        streams.add(A, event(A, 6, "PURGED", "SUCCEED", action="RESTORE"))
        await top.shows("PURGED", "It has left the MDT's list.")
        await top.press("backspace")
        await top.shows("none left")
        await top.press("escape")
        assert isinstance(top.page, Overview)
        await top.press("escape", "escape")
        assert isinstance(top.page, Overview), "the first page stays"

    drive(streams, scenario)


def test_paths_come_at_need(streams: Streams, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    world.put("0x200000401:0x0:0x0", "[red]markup[/red].dat")
    world.put("0x200000401:0x1:0x0", "project/\x1b[2Jowned.dat")
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)

    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        await top.press("enter")
        await top.shows("/lustre/[red]markup[/red].dat")
        assert "owned" not in top.text, "only that under the cursor is asked for"
        await top.press("p")
        await top.shows("/lustre/project/\\x1b[2Jowned.dat")

    drive(streams, scenario, mounts={"elm": MOUNT})


def test_pausing_stops_the_looks_and_not_the_keys(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        await top.press("space")
        await top.shows("Viewer Status: Paused at ")
        look = top.app.update_thread.updater.view
        streams.new(B, range(50, 60))
        await top.press("g", "down", "m", "escape", "g", "g", "g", "g", "enter")
        await top.until(lambda: isinstance(top.page, Actions) and top.rows)
        await top.press("escape")
        assert top.app.update_thread.updater.view is look, "nothing was looked at"
        await top.press("r")
        await top.shows("Live Actions: 21 ")
        await top.press("p")
        await top.shows("Listening for live updates...")

    drive(streams, scenario)


def test_the_interval_is_changed_by_keys(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("Interval: 0.1s")
        await top.press("plus", "plus")
        await top.shows("Interval: 1s")
        await top.press("minus", "minus", "minus")
        await top.shows("Interval: 0.5s")

    drive(streams, scenario)


def test_help_names_every_key(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        await top.press("question_mark")
        text = await top.shows("--- Keys ---")
        for what in ("quit", "pause", "sort", "group", "words", "MDTs", "history", "suspend"):
            assert what in text
        await top.press("h", "escape")
        assert isinstance(top.page, Overview)

    drive(streams, scenario)


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5), (200, 60)])
def test_every_page_can_be_drawn_at_any_size(streams: Streams, size: tuple[int, int]) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        for key in ("m", "escape", "h", "escape", "enter"):
            await top.press(key)
        await top.until(lambda: isinstance(top.page, Actions) and top.rows)
        await top.press("enter")
        await top.until(lambda: isinstance(top.page, HistoryPage) and top.rows)

    drive(streams, scenario, size)
