"""`hsm-action-top` in a real terminal: drawing, resizing, quitting, signals, and Redis going away."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PrivateServer
from tests.support.dashboards import COMMAND, Streams
from tests.support.servers import RedisServer
from tests.support.terminal import Terminal, a_terminal, needs_tmux
from tests.support.waiting import eventually

pytestmark = needs_tmux

MDTS = [f"elm-MDT{number:04x}" for number in range(40)]
KEYS_LINE = "q Quit  h Help  p Pause  s Sort  f Filter  g Group  m MDTs  Enter Actions  + -"


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    streams = Streams(redis_server, redis_db)
    for mdt in MDTS:
        streams.new(mdt, range(3))
        streams.beat(mdt)
    return streams


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with a_terminal() as terminal:
        yield terminal


def begin(terminal: Terminal, streams: Streams, *options: str, environment: str = "") -> None:
    """Start the dashboard."""
    command = shlex.join([COMMAND, *streams.where, "-d", "0.2", *options])
    terminal.type(f"env -u NO_COLOR TZ=UTC {environment} {command}")


def start(terminal: Terminal, streams: Streams, *options: str, environment: str = "") -> str:
    """Start the dashboard, and wait until it is live."""
    begin(terminal, streams, *options, environment=environment)
    return terminal.shows("Listening for live updates...", "Quit")


def is_restored(terminal: Terminal) -> bool:
    """Whether the terminal is as a shell wants it: no alternate screen, a cursor, and what is typed is echoed."""
    terminal.type("echo typed-$((6*7))")
    terminal.shows("echo typed-", "typed-42")
    return (terminal.setting("alternate_on"), terminal.setting("cursor_flag")) == ("0", "1")


def test_keys_pressed_while_it_starts_hinder_nothing(terminal: Terminal, streams: Streams) -> None:
    begin(terminal, streams)

    def is_on_the_page_of_the_mdts() -> bool:
        terminal.press("m")
        return "--- MDTs and their Shippers ---" in terminal.screen()

    eventually(is_on_the_page_of_the_mdts, interval_s=0.02)
    terminal.shows("Listening for live updates...", "of 40")


def test_forty_mdts_are_usable_at_80_by_24(terminal: Terminal, streams: Streams) -> None:
    start(terminal, streams)
    lines = terminal.shows("1-12 of 40", "elm-MDT000b", "Workers: 40 polling").splitlines()
    assert lines[0] == "--- Lustre HSM Action Dashboard ---"
    assert lines[1].endswith("| Redis: Connected")
    assert lines[3].startswith("Live Actions: 120 | Total Events Processed: 120 | Last Event: ")
    assert "Workers: 40 polling | Coordinators: 40 enabled | Copytools: 1, 1 busy" in lines
    at = lines.index("MDT         | ACTION  | STATUS  |      COUNT | DIFF     | OLDEST")
    assert lines[at - 1].startswith("--- Live Action Count by (MDT, Action, Status) ---")
    assert lines[at - 1].endswith("1-12 of 40")
    assert lines[at + 2].startswith("elm-MDT0000 | ARCHIVE | WAITING |          3 |          | ")
    assert lines[23] == KEYS_LINE
    terminal.press("End")
    terminal.shows("elm-MDT0027", "29-40 of 40")
    terminal.press("q")
    terminal.shows("ready:0")
    assert is_restored(terminal)


@pytest.mark.parametrize(
    ("how", "prompt"),
    [("q", "ready:0"), ("C-c", "ready:130"), (signal.SIGTERM, "ready:143"), (signal.SIGINT, "ready:130")],
    ids=str,
)
def test_however_it_ends_the_terminal_is_as_before(
    terminal: Terminal, streams: Streams, how: str | signal.Signals, prompt: str
) -> None:
    terminal.type("echo before")
    start(terminal, streams)
    assert terminal.setting("alternate_on") == "1"
    if isinstance(how, signal.Signals):
        os.kill(terminal.child(COMMAND), how)
    else:
        terminal.press(how)
    screen = terminal.shows(prompt, "before")
    assert "Traceback" not in screen
    assert "Dashboard" not in screen
    assert is_restored(terminal)


def test_it_draws_itself_anew_when_the_terminal_is_resized(terminal: Terminal, streams: Streams) -> None:
    start(terminal, streams)
    terminal.resize(120, 40)
    terminal.shows("1-28 of 40", "elm-MDT001b")
    eventually(lambda: terminal.screen().splitlines()[39] == KEYS_LINE)
    terminal.resize(60, 16)
    eventually(lambda: terminal.screen().splitlines()[15].startswith("q Quit"))
    terminal.shows("elm-MDT0000 | ARCHIVE")


def test_redis_goes_and_comes_back(terminal: Terminal, private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes")
    streams = Streams(server, 0)
    streams.new("elm-MDT0000", range(3))
    streams.beat("elm-MDT0000")
    start(terminal, streams)
    server.kill()
    of_before = "elm-MDT0000 | ARCHIVE | WAITING |          3 |"
    terminal.shows("Redis: Disconnected since ", "ALERT no answer from Redis", of_before)
    server.start()
    streams.new("elm-MDT0000", range(3, 5))
    terminal.shows("Redis: Connected", "elm-MDT0000 | ARCHIVE | WAITING |          5 |")


def test_ctrl_z_suspends_and_fg_goes_on(terminal: Terminal, streams: Streams) -> None:
    terminal.type("set -m")
    start(terminal, streams)
    terminal.press("C-z")
    terminal.shows("Stopped")
    terminal.type("fg")
    terminal.shows("Listening for live updates...", "Quit")
    terminal.press("q")
    terminal.shows("ready:0")


def test_keys_work_while_redis_does_not_answer(terminal: Terminal, private_server: PrivateServer) -> None:
    server = private_server()
    streams = Streams(server, 0)
    server.pause()
    try:
        terminal.type(shlex.join([COMMAND, *streams.where]))
        terminal.shows("Viewer Status: Asking Redis for the streams...")
        terminal.press("h")
        terminal.shows("--- Keys ---")
        terminal.press("q")
        terminal.shows("ready:0")
    finally:
        server.resume()


def test_nothing_is_left_when_the_terminal_is_closed(streams: Streams) -> None:
    with a_terminal() as terminal:
        start(terminal, streams)
        process = terminal.child(COMMAND)
    eventually(lambda: not Path(f"/proc/{process}").exists())


def test_nothing_is_left_when_the_terminal_is_closed_and_that_is_ignored(streams: Streams) -> None:
    with a_terminal() as terminal:
        terminal.type("trap '' HUP")
        start(terminal, streams)
        process = terminal.child(COMMAND)
    eventually(lambda: not Path(f"/proc/{process}").exists())


@pytest.mark.parametrize("term", ["screen", "xterm", "linux"])
def test_sixteen_colours_are_enough(streams: Streams, term: str) -> None:
    streams.new("elm-MDT0000", range(50, 53), "FAILED")
    streams.client.delete("{hsm:actions:elm-MDT0001}:heartbeat")
    with a_terminal() as terminal:
        start(terminal, streams, environment=f"TERM={term} COLORTERM=")
        terminal.shows("FAILED", "1 missing")
        screen = terminal.screen(colour=True)
        assert "\x1b[1m\x1b[31mFAILED" in screen or "\x1b[1;31mFAILED" in screen
        assert "38;5;" not in screen
        assert "38;2;" not in screen
        assert "1 missing" in screen


def test_no_color_is_honoured(terminal: Terminal, streams: Streams) -> None:
    streams.new("elm-MDT0000", range(50, 53), "FAILED")
    command = shlex.join([COMMAND, *streams.where])
    terminal.type(f"env NO_COLOR=1 {command}")
    terminal.shows("Listening for live updates...", "FAILED")
    screen = terminal.screen(colour=True)
    assert all(f"\x1b[{number}m" not in screen and f";{number}m" not in screen for number in range(30, 38))


def test_a_server_that_refuses_is_one_line_on_the_shells_screen(
    terminal: Terminal, private_server: PrivateServer
) -> None:
    server = private_server(requirepass="secret")
    terminal.type(shlex.join([COMMAND, "--redis-url", f"{server.url}/0"]))
    screen = terminal.shows("ready:1")
    assert "hsm-action-top: reading the streams hsm:actions:* from redis://127.0.0.1" in screen.replace("\n", "")
    assert "Traceback" not in screen


def test_without_a_place_to_draw_it_says_so(terminal: Terminal, streams: Streams) -> None:
    command = shlex.join([COMMAND, *streams.where])
    terminal.type(f"{command} | cat")
    terminal.shows("and stdout is none; print")
    terminal.type(f"clear; TERM=dumb {command}")
    terminal.shows("the dashboard needs a terminal that can be drawn on", "ready:2")
