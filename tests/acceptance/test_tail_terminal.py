"""`hsm-stream-tail` in a real terminal: colour, wide and hostile names, Ctrl+C."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lustre import MOUNT, World
from tests.support.tails import COMMAND, Tails
from tests.support.terminal import Terminal, a_terminal, needs_tmux
from tests.support.waiting import eventually

pytestmark = needs_tmux

COLUMNS = 200  # no line of the tail is wrapped
FID = "0x200000401:0x1:0x0"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with a_terminal(columns=COLUMNS) as terminal:
        yield terminal


def test_a_tail_on_a_terminal_has_colour_and_ends_quietly(terminal: Terminal, tails: Tails, tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.put(FID, "project/\x1b[2J\x1b]0;owned\x07.dat")
    tails.append(status="FAILED", fid=FID)
    tails.append(status="WAITING", fid="0x200000401:0x2:0x0")
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in world.environment.items())
    options = [*tails.where, "--from-beginning", "--mount", f"elm={MOUNT}"]
    terminal.type(f"env TZ=UTC {environment} {shlex.join([COMMAND, *options])}")
    terminal.shows("WAITING  -> [0x200000401:0x2:0x0]")
    tails.append(status="SUCCEED", fid=FID)
    terminal.shows("SUCCEED")
    lines = terminal.screen().splitlines()
    assert any(line.startswith("Tailing streams with prefix 'hsm:actions:*'. Press Ctrl+C to exit.") for line in lines)
    assert any("FAILED   -> /lustre/project/\\x1b[2J\\x1b]0;owned\\x07.dat (id: " in line for line in lines)
    coloured = terminal.screen(colour=True)
    assert "\x1b[1m\x1b[31mFAILED\x1b[0m" in coloured.replace("\x1b[1;31m", "\x1b[1m\x1b[31m")
    assert "\x1b[32mSUCCEED\x1b[" in coloured
    assert " WAITING  -> " in coloured, "what only waits has no colour"
    terminal.press("C-c")
    terminal.shows("ready:130")
    assert "Traceback" not in terminal.screen()
    assert terminal.setting("pane_title") != "owned"
    eventually(lambda: not world.running())
