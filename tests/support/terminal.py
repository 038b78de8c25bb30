"""A real terminal for tests: a pane of a tmux server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import eventually

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

# Of the terminal that the tests run in; pytest-xdist exports a size that no resizing would change.
_NOT_PASSED_ON = {"TMUX", "NO_COLOR", "COLUMNS", "LINES"}


class Terminal:
    """A shell in a pane, whose prompt tells the last exit code: `ready:0`."""

    def __init__(self, folder: Path, columns: int, lines: int, term: str) -> None:
        self._socket = str(folder / "tmux")
        configuration = folder / "tmux.conf"
        configuration.write_text(f"set -g default-terminal {term}\nset -g remain-on-exit on\n")
        size = ("-x", str(columns), "-y", str(lines))
        self.tmux("-f", str(configuration), "new-session", "-d", *size, "PS1='ready:$? ' exec sh")
        self.shows("ready:0")

    def tmux(self, *arguments: str) -> str:
        """Run a command of tmux; returns what it prints."""
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        command = ["tmux", "-u", "-S", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    def type(self, line: str) -> None:
        """Type a line, and Enter."""
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names of them."""
        self.tmux("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """Make it larger or smaller."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self, *, colour: bool = False) -> str:
        """What is on it now; with `colour` as tmux would draw it again."""
        return self.tmux("capture-pane", "-p", *(["-e"] if colour else []))

    def shows(self, *texts: str) -> str:
        """Wait until all of `texts` are on it, and return what is."""

        def seen() -> str:
            screen = self.screen()
            return screen if all(text in screen for text in texts) else ""

        try:
            return eventually(seen, interval_s=0.1)
        except AssertionError:
            raise AssertionError(f"{texts} are not all on:\n{self.screen()}") from None

    def setting(self, name: str) -> str:
        """What tmux knows of the pane: `alternate_on`, `cursor_flag`, …"""
        return self.tmux("display-message", "-p", f"#{{{name}}}").strip()

    def child(self, program: str) -> int:
        """The process id of a program that runs in the pane."""
        shell = self.setting("pane_pid")
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        [found] = [pid for pid in children if program in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
        return int(found)


@contextmanager
def a_terminal(columns: int = 80, lines: int = 24, term: str = "screen-256color") -> Iterator[Terminal]:
    """A terminal that ends with the block."""
    # A short path: the name of a Unix socket is limited to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="hsm-tmux-", dir="/tmp"))
    terminal = None
    try:
        terminal = Terminal(folder, columns, lines, term)
        yield terminal
    finally:
        if terminal is not None:
            terminal.tmux("kill-server")
        shutil.rmtree(folder, ignore_errors=True)
