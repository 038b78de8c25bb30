"""The dashboard of `hsm-action-top`, driven by its keys, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from hsm_shipper.keys import stream_key
from hsm_tools.dashboard.actions import Actions
from hsm_tools.dashboard.app import Dashboard
from hsm_tools.dashboard.history import HistoryPage
from hsm_tools.dashboard.overview import Overview
from hsm_tools.dashboard.page import Page
from hsm_tools.dashboard.viewer import Viewer
from hsm_tools.dashboard.watcher import Watcher
from hsm_tools.filters import ActionFilter
from tests.conftest import PrivateServer
from tests.dashboards import PREFIX, Streams, event
from tests.lustre import MOUNT, World
from tests.servers import RedisServer

A, B = "elm-MDT0000", "elm-MDT0001"
_TIMEOUT_S = 15.0


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    streams = Streams(redis_server, redis_db)
    streams.new(A, range(5))
    streams.new(A, range(5, 8), "STARTED", action="RESTORE", first_seen=int(time.time()) - 4000)
    streams.new(B, range(3), "FAILED")
    streams.beat(A)
    streams.beat(B, host="mds2")
    return streams


class Driver:
    """Presses keys, and reads what is shown."""

    def __init__(self, app: Dashboard, pilot: Pilot[None]) -> None:
        self.app = app
        self.press = pilot.press
        self._pilot = pilot

    @property
    def page(self) -> Page:
        page = self.app.screen
        assert isinstance(page, Page)
        return page

    @property
    def text(self) -> str:
        """All that is shown, and the rows out of sight too."""
        page = self.page
        return "\n".join((page.above.text, page.grid.text, page.below.text))

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the table."""
        return [[cell.strip() for cell in row.split(self.page.SEPARATOR)] for row in self.page.grid.text.splitlines()]

    async def until(self, check: Callable[[], Any]) -> Any:
        """Wait until something is true."""
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not (answer := isinstance(self.app.screen, Page) and check()):
            assert time.monotonic() < deadline_s, f"in vain, on:\n{self.text}"
            await self._pilot.pause(0.02)
        return answer

    async def shows(self, *texts: str) -> str:
        """Wait until all of `texts` are shown."""
        return str(await self.until(lambda: all(text in self.text for text in texts) and self.text))


Scenario = Callable[[Driver], Awaitable[None]]


@contextmanager
def watcher_of(streams: Streams, **filters: list[str]) -> Iterator[Watcher]:
    watcher = Watcher(Viewer(streams.config, ActionFilter(**filters)), 0.1)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.close()
        watcher.viewer.close()


def drive(
    streams: Streams,
    scenario: Scenario,
    size: tuple[int, int] = (80, 24),
    mounts: dict[str, str] | None = None,
    **filters: list[str],
) -> None:
    """Run the dashboard and the scenario on it."""

    async def run(watcher: Watcher) -> None:
        app = Dashboard(streams.config, watcher, mounts)
        try:
            async with app.run_test(size=size) as pilot:
                await scenario(Driver(app, pilot))
        finally:
            app.files.close()

    with watcher_of(streams, **filters) as watcher:
        asyncio.run(run(watcher))
        assert watcher.failure is None


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
            orders[top.page.above.text.rpartition("by ")[2].strip()] = [row[2] for row in top.rows]
            await top.press("s")
        assert orders["ACTION"] == ["WAITING", "FAILED", "CANCELED", "STARTED"]
        assert orders["STATUS"] == ["CANCELED", "FAILED", "STARTED", "WAITING"]
        assert orders["COUNT"] == ["CANCELED", "WAITING", "STARTED", "FAILED"]
        assert orders["OLDEST"][0] == "STARTED"
        await top.press("R")
        assert [row[2] for row in top.rows] == ["CANCELED", "FAILED", "STARTED", "WAITING"]
        assert "reversed" in top.text

    drive(streams, scenario)


def test_the_filter_works_as_it_is_typed_and_escape_clears_it(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        await top.press("f", *"0000 resT")
        await top.until(lambda: [row[2] for row in top.rows] == ["STARTED"])
        await top.press("enter", "g")
        assert top.rows[0][:2] == [A, "3"], "keys are keys again"
        await top.press("slash", *"[red]q")
        assert "No live action passes the filter" in top.text
        await top.press("escape", "g", "g", "g", "g")
        assert len(top.rows) == 3

    drive(streams, scenario)


def test_grouping(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        seen = []
        for _ in range(5):
            await top.press("g")
            seen.append([row[:-2] for row in top.rows])
        assert seen[:4] == [
            [[A, "8"], [B, "3"]],
            [["ARCHIVE", "8"], ["RESTORE", "3"]],
            [["FAILED", "3"], ["STARTED", "3"], ["WAITING", "5"]],
            [["mds1", "8"], ["mds2", "3"]],
        ]
        assert len(seen[4]) == 3

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


def test_only_the_oldest_thousand_actions_are_listed_and_it_is_said(redis_server: RedisServer, redis_db: int) -> None:
    streams = Streams(redis_server, redis_db)
    now = int(time.time())
    streams.add(A, *(event(A, rec, first_seen=now - rec) for rec in range(1200)))

    async def scenario(top: Driver) -> None:
        await top.shows("1,200")
        await top.press("enter")
        await top.shows("--- Oldest 1,000 of 1,200 Actions: elm-MDT0000 ARCHIVE WAITING ---")
        assert len(top.rows) == 1000
        assert f"[0x200000401:{1199:#x}:0x0]" in top.rows[0]
        await top.press("end")
        assert f"[0x200000401:{200:#x}:0x0] elm-MDT0000 1/200" in top.text

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
        look = top.app.watcher.viewer.view
        streams.new(B, range(50, 60))
        await top.press("g", "down", "m", "escape", "g", "g", "g", "g", "enter")
        await top.until(lambda: isinstance(top.page, Actions) and top.rows)
        await top.press("escape")
        assert top.app.watcher.viewer.view is look, "nothing was looked at"
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


def test_workers_and_coordinators_show_how_they_are(streams: Streams) -> None:
    streams.beat(B, last_poll_at=time.time() - 500, hsm_control="disabled", max_requests=9)
    streams.new("elm-MDT0002", range(2))

    async def scenario(top: Driver) -> None:
        text = await top.shows("Workers: 1 polling, 1 stale, 1 missing | Coordinators: 1 enabled, 1 disabled")
        assert "ALERT elm-MDT0001: shipper stale, last poll 8m 2" in text
        assert "ALERT elm-MDT0002: no heartbeat" in text
        assert "ALERT elm-MDT0001: coordinator is disabled" in text
        await top.press("m")
        await top.shows("--- MDTs and their Shippers ---", "MISSING", "STALE", "polling")
        await top.press("down")
        await top.shows(
            "Coordinator: disabled, max_requests 9", "Copytool 80379a60, archive 1,2: 3 under way, 120 done"
        )

    drive(streams, scenario)


def test_redis_killed_and_restarted(private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes")
    streams = Streams(server, 0)
    streams.new(A, range(5))
    streams.beat(A)

    async def scenario(top: Driver) -> None:
        await top.shows("Listening for live updates...")
        server.kill()
        text = await top.shows("Redis: Disconnected since ", "ALERT no answer from Redis at redis://127.0.0.1")
        assert "trying again; what was last known is shown" in text
        assert [row[:4] for row in top.rows] == [[A, "ARCHIVE", "WAITING", "5"]]
        await top.press("enter")
        await top.until(lambda: isinstance(top.page, Actions) and len(top.rows) == 5)
        await top.press("escape")
        server.start()
        await top.shows("Redis: Connected", "Listening for live updates...")
        streams.new(A, range(5, 7))
        await top.until(lambda: top.rows[0][3] == "7")

    drive(streams, scenario)


def test_a_server_that_is_away_at_first_is_waited_for(private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes")
    streams = Streams(server, 0)
    streams.new(A, range(5))
    server.kill()

    async def scenario(top: Driver) -> None:
        await top.shows("Redis: Disconnected since ", "Live Actions: - |")
        server.start()
        await top.shows("Live Actions: 5 |")

    drive(streams, scenario)


def test_a_flushed_server_shows_as_such(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        streams.client.flushdb()
        text = await top.shows("its stream vanished")
        assert "No live actions: 0 streams." in text or "(-5)" in text
        streams.new(A, range(2))
        streams.beat(A)
        await top.until(lambda: [row[:4] for row in top.rows] == [[A, "ARCHIVE", "WAITING", "2"]])
        await top.shows("elm-MDT0001: its stream vanished")

    drive(streams, scenario)


def test_a_stream_that_was_made_anew_between_two_looks_is_said_to_be_read_anew(streams: Streams) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("FAILED")
        with streams.client.pipeline() as pipe:
            pipe.delete(stream_key(PREFIX, A))
            pipe.xadd(stream_key(PREFIX, A), {"data": b"not JSON"})
            pipe.execute()
        await top.shows("elm-MDT0000: read anew;", "1 malformed entry passed over")

    drive(streams, scenario)


def test_nothing_from_a_stream_is_markup_or_reaches_the_terminal_raw(redis_server: RedisServer, redis_db: int) -> None:
    streams = Streams(redis_server, redis_db)
    hostile = "[red]\x1b]0;owned\x07[/nonsense"
    streams.add(A, event(A, 1, status=hostile, action="[b]\u202eX", raw=None, fid="[link=x]\n", host="\x1b[31m"))
    streams.beat(A, host=hostile, last_error=hostile, hsm_control=hostile)
    shown = "[red]\\x1b]0;owned\\x07[/nonsense"

    async def scenario(top: Driver) -> None:
        await top.shows("[red]\\x1b]0;owned~")
        assert top.rows[0][:2] == [A, "[b]\\u202eX"]
        assert f"last poll failed: {shown}" in top.text.replace("\n      ", " ")
        for keys in ("g", "g", "g", "g", "g", "m", "escape", "enter"):
            await top.press(keys)
            assert all(line.isprintable() for line in top.text.splitlines())
        await top.shows("[link=x]\\x0a", "\\x1b[31m")
        await top.press("enter")
        await top.until(lambda: isinstance(top.page, HistoryPage) and top.rows)
        assert all(line.isprintable() for line in top.text.splitlines())

    drive(streams, scenario)


def test_forty_mdts_scroll_and_the_cursor_stays_on_its_row(redis_server: RedisServer, redis_db: int) -> None:
    streams = Streams(redis_server, redis_db)
    mdts = [f"elm-MDT{number:04x}" for number in range(40)]
    for mdt in mdts:
        streams.new(mdt, range(2))
        streams.beat(mdt)

    async def scenario(top: Driver) -> None:
        await top.shows("1-12 of 40")
        await top.press("pagedown", "pagedown")
        await top.until(lambda: "1-12" not in top.text)
        await top.press("end")
        await top.shows("29-40 of 40")
        assert top.page.grid.current[1][0] == mdts[-1]
        await top.press("home", *["down"] * 5)
        assert top.page.grid.current[1][0] == mdts[5]
        streams.new("aaa-MDT0000", range(3))
        await top.shows("of 41")
        assert top.page.grid.current[1][0] == mdts[5], "rows came above it"

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
        for key in ("m", "escape", "h", "escape", "enter", "enter"):
            await top.press(key)
        await top.until(lambda: isinstance(top.page, HistoryPage) and top.rows)

    drive(streams, scenario, size)
