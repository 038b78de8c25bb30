"""The dashboard in a real terminal while several processes read its streams: none of them outlives it."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator

import pytest

from tests.conftest import PrivateServer
from tests.support.dashboards import COMMAND
from tests.support.servers import RedisServer
from tests.support.side_by_side import children, fill, gone
from tests.support.terminal import Terminal, a_terminal, needs_tmux
from tests.support.waiting import eventually

pytestmark = needs_tmux


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with a_terminal() as terminal:
        yield terminal


@pytest.fixture
def server(private_server: PrivateServer) -> RedisServer:
    return private_server()


def begin(terminal: Terminal, server: RedisServer) -> int:
    """Start the dashboard; returns the process that reads beside it, Redis standing still from here on."""
    streams = fill(server, 0)
    terminal.type(shlex.join([COMMAND, *streams.where, "--jobs", "2"]))
    terminal.shows("Lustre HSM Action Dashboard")
    dashboard = terminal.child(COMMAND)

    def found() -> list[int]:
        server.pause()
        if not (beside := children(dashboard)):
            server.resume()
        return beside

    [child] = eventually(found, interval_s=0.005)
    return child


@pytest.mark.parametrize(("key", "status"), [("q", 0), ("C-c", 130)])
def test_quitting_ends_it_at_once_though_redis_does_not_answer(
    terminal: Terminal, server: RedisServer, key: str, status: int
) -> None:
    child = begin(terminal, server)
    terminal.press(key)
    terminal.shows(f"ready:{status}")
    eventually(lambda: gone(child))
    assert terminal.setting("alternate_on") == "0" and "Traceback" not in terminal.screen()


def test_a_process_that_is_killed_is_told_when_the_terminal_is_as_before(
    terminal: Terminal, server: RedisServer
) -> None:
    child = begin(terminal, server)
    os.kill(child, signal.SIGKILL)
    server.resume()
    screen = terminal.shows("ready:1")
    assert "hsm-action-top: the process that was to read stream hsm:actions:elm-MDT00" in screen
    assert "was ended by signal 9 (Killed)" in screen.replace("\n", "")
    assert terminal.setting("alternate_on") == "0" and "Traceback" not in screen
