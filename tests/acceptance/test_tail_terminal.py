"""`hsm-stream-tail` in a real terminal: colour, wide and hostile names, Ctrl+C."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tails import COMMAND, Tails, tails_on
from tests.lustre import MOUNT, World
from tests.servers import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

FID = "0x200000401:0x1:0x0"


class Terminal:
    """A shell in a pane of a tmux server of its own, 100 columns wide."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "20", "exec sh")

    def tmux(self, *arguments: str) -> str:
        """Run a command of tmux; returns what it prints."""
        done = subprocess.run(["tmux", "-S", self._socket, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, line: str) -> None:
        """Type a line, and Enter."""
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def screen(self, *, colour: bool = False) -> str:
        """What is on it now; with `colour` as tmux would draw it again."""
        return self.tmux("capture-pane", "-p", "-J", *(["-e"] if colour else []))

    def shows(self, text: str) -> None:
        """Wait until `text` is on it."""
        eventually(lambda: text in self.screen())


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.tmux("kill-server")


@pytest.fixture
def tails(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[Tails]:
    with tails_on(redis_server, redis_db, tmp_path) as tails:
        yield tails


def test_a_tail_on_a_terminal_has_colour_and_ends_quietly(terminal: Terminal, tails: Tails, tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.put(FID, "project/\x1b[2J\x1b]0;owned\x07.dat")
    tails.append(status="FAILED", fid=FID)
    tails.append(status="WAITING", fid="0x200000401:0x2:0x0")
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in world.environment.items())
    options = [*tails.where, "--from-beginning", "--mount", f"elm={MOUNT}"]
    terminal.type("PS1='ready:$? '; unset NO_COLOR")
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
    terminal.tmux("send-keys", "C-c")
    terminal.shows("ready:130")
    assert "Traceback" not in terminal.screen()
    assert terminal.tmux("display-message", "-p", "#{pane_title}").strip() != "owned"
    assert world.running() == []
