"""The dashboard of `hsm-action-top`, on streams and servers that come, go, grow and lie."""

from __future__ import annotations

import threading
import time
from typing import cast

import pytest

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import heartbeat_key, stream_key
from hsm_shipper.errors import ConfigError
from hsm_tools.dashboard.data.lookup import Lookup
from hsm_tools.dashboard.screens.actions import Actions
from hsm_tools.dashboard.screens.history import HistoryPage
from tests.conftest import PrivateServer
from tests.support.dashboard_driver import A, B, Driver, drive
from tests.support.dashboards import PREFIX, Streams, event
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S


def test_only_the_oldest_thousand_actions_are_listed_and_it_is_said(redis_server: RedisServer, redis_db: int) -> None:
    streams = Streams(redis_server, redis_db)
    now = int(time.time())
    streams.add(A, *(event(A, rec, first_seen=now - rec) for rec in range(1200)))

    async def scenario(top: Driver) -> None:
        await top.shows("Live Actions: 1,200")
        await top.press("enter")
        await top.shows("--- Oldest 1,000 of 1,200 Actions: elm-MDT0000 ARCHIVE WAITING ---")
        assert len(top.rows) == 1000
        assert f"[0x200000401:{1199:#x}:0x0]" in top.rows[0]
        await top.press("end")
        await top.shows(f"[0x200000401:{200:#x}:0x0] elm-MDT0000 1/200")

    drive(streams, scenario)


def test_a_page_that_is_left_before_its_answer_comes_ends_nothing(streams: Streams) -> None:
    streams.new("elm-MDT0002", range(2))
    held = threading.Event()

    async def scenario(top: Driver) -> None:
        await top.shows("elm-MDT0002")
        top.app.update_thread.ask(lambda _: cast(None, held.wait(DEADLINE_S)), lambda error: pytest.fail(str(error)))
        await top.press("enter")
        await top.shows("looking...")
        await top.press("escape")
        await top.shows("--- Live Action Count")
        held.set()
        streams.new("elm-MDT0003", range(7))
        await top.shows("elm-MDT0003")

    drive(streams, scenario)


def test_workers_and_coordinators_show_how_they_are(streams: Streams) -> None:
    streams.beat(B, last_poll_at=time.time() - 480, hsm_control="disabled", max_requests=9)
    streams.new("elm-MDT0002", range(2))

    async def scenario(top: Driver) -> None:
        text = await top.shows("Workers: 1 polling, 1 stale, 1 missing | Coordinators: 1 enabled, 1 disabled")
        assert "ALERT elm-MDT0001: shipper stale, last poll 8m " in text
        assert "ALERT elm-MDT0002: no heartbeat" in text
        assert "ALERT elm-MDT0001: coordinator is disabled" in text
        await top.press("m")
        await top.shows("--- MDTs and their Shippers ---", "MISSING", "STALE", "polling")
        await top.press("down")
        await top.shows(
            "Coordinator: disabled, max_requests 9", "Copytool 80379a60, archive 1,2: 3 under way, 120 done"
        )

    drive(streams, scenario)


def test_what_is_not_shipped_and_what_nobody_works_on_is_shown(streams: Streams) -> None:
    streams.beat(
        B, lines_not_understood=2, archive_count=5, restore_count=1, remove_count=1, slots_lost_since=0.0,
        backlog=1234, backlog_since=time.time() - 36_000,
    )  # fmt: skip

    async def scenario(top: Driver) -> None:
        text = await top.shows("WARN  elm-MDT0001: 2 of 10 lines of the actions file are not understood")
        assert "WARN  elm-MDT0001: no slot is left (max_requests 4)" in text
        await top.press("m")
        await top.shows("--- MDTs and their Shippers ---", "polling")
        await top.press("down")
        await top.shows(
            "2 of these are not understood, and not shipped",
            "1,234 changes wait for Redis, the first for 10h",
            "Coordinator: enabled, max_requests 4, active requests 7",
            "No slot is left, and no copytool works on 4 of the active requests",
        )

    drive(streams, scenario)


def test_a_copytool_that_is_not_understood_is_one_all_the_same(streams: Streams) -> None:
    streams.beat(A, copytools=[], agents_not_understood=3)

    async def scenario(top: Driver) -> None:
        text = await top.shows("WARN  elm-MDT0000: 3 copytools are not understood")
        assert "busy, 3 not understood" in text
        await top.press("m")
        await top.shows("--- MDTs and their Shippers ---", "polling")
        assert top.page.grid.text.split("\n")[0].split()[-2] == "3", "the column TOOLS"

    drive(streams, scenario)


def test_a_heartbeat_that_cannot_be_read_is_not_missing(streams: Streams) -> None:
    streams.client.set(heartbeat_key(PREFIX, A), b"\x1b[2J")

    async def scenario(top: Driver) -> None:
        text = await top.shows("Workers: 1 polling, 1 unreadable")
        assert r"WARN  elm-MDT0000: heartbeat does not decode: b'\x1b[2J'; whether it is polled" in text
        assert "missing" not in text
        await top.press("m")
        await top.shows("UNREADABLE", "The heartbeat does not decode", "Whether a shipper polls it is not known.")

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


@pytest.mark.parametrize("lines", [16, 20, 24])
def test_the_mdt_under_the_cursor_is_in_sight_whatever_is_wrong(
    redis_server: RedisServer, redis_db: int, lines: int
) -> None:
    streams = Streams(redis_server, redis_db)
    mdts = [f"elm-MDT{number:04x}" for number in range(6)]
    for number, mdt in enumerate(mdts):
        streams.new(mdt, [1])
        streams.beat(mdt, hsm_control="disabled", lines_not_understood=number)

    async def scenario(top: Driver) -> None:
        await top.shows("Live Actions: 6 |")
        await top.press("m")
        await top.shows("--- MDTs and their Shippers ---")
        for mdt in mdts[1:]:
            await top.press("down")
            await top.shows(f"{mdt}: 1 entries", "Copytool 80379a60")
        grid = top.page.grid
        assert any(mdts[-1] in grid.render_line(y).text for y in range(grid.size.height))

    drive(streams, scenario, (80, lines))


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


@pytest.mark.parametrize(
    ("error", "shown"),
    [(TypeError("no such thing"), "asking Redis failed: TypeError: no such thing (test_dashboard_"),
     (ConfigError("cannot read redis_password_file"), "cannot read redis_password_file")],
)  # fmt: skip
def test_a_history_that_cannot_be_asked_for_says_why_and_is_asked_for_again(
    streams: Streams, monkeypatch: pytest.MonkeyPatch, error: Exception, shown: str
) -> None:
    fails = True

    def lookup(config: Config) -> Lookup:
        if fails:
            raise error
        return Lookup(config)

    monkeypatch.setattr("hsm_tools.dashboard.data.lookup_thread.Lookup", lookup)

    async def scenario(top: Driver) -> None:
        nonlocal fails
        await top.shows("elm-MDT0000 | ARCHIVE")
        await top.press("enter")
        await top.until(lambda: isinstance(top.page, Actions) and top.rows)
        await top.press("enter")
        text = await top.shows("--- History:", "not known", shown)
        assert "looking..." not in text
        fails = False
        streams.new("elm-MDT0002", range(2))
        await top.shows("1 entries")

    drive(streams, scenario)


def test_actions_that_cannot_be_looked_for_say_why(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsm_tools.dashboard.screens.actions.longest_waiting", lambda *_: 1 / 0)

    async def scenario(top: Driver) -> None:
        await top.shows("elm-MDT0000 | ARCHIVE")
        await top.press("enter")
        text = await top.shows("not known", "looking through the streams failed: ZeroDivisionError: division by zero")
        assert "looking..." not in text

    drive(streams, scenario)


def test_looks_that_fail_show_it(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(top: Driver) -> None:
        await top.shows("Listening for live updates...")
        monkeypatch.setattr("hsm_tools.dashboard.data.view_updater.mdt_state", lambda *_: 1 / 0)
        await top.shows(
            "Viewer Status: Failed ", "ago, trying again; what was last known is shown",
            "ALERT looking at the streams failed: ZeroDivisionError: division by zero",
        )  # fmt: skip
        assert top.app.update_thread.failure is None
        monkeypatch.undo()
        await top.press("r")
        await top.shows("Listening for live updates...")

    drive(streams, scenario)
