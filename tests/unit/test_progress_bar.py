"""The bar of what takes long: one line of the terminal, however narrow that is."""

from __future__ import annotations

import os
import pty
import termios

import pytest

from hsm_tools.command import progress_bar
from hsm_tools.command.progress_bar import ProgressBar


@pytest.mark.parametrize(("columns", "shown"), [(40, 39), (80, 79), (0, 79), (200, 82)])
def test_the_bar_stays_in_one_line(monkeypatch: pytest.MonkeyPatch, columns: int, shown: int) -> None:
    monkeypatch.setattr(progress_bar, "_QUIET_S", 0.0)
    monkeypatch.setattr(progress_bar, "_INTERVAL_S", 0.0)
    keyboard, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with os.fdopen(keyboard, "rb", buffering=0) as screen, os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        bar = ProgressBar()
        bar.begin("replaying the streams", 100_000_000)
        bar(50_000_000)
        drawn = screen.read(1000).decode()
        monkeypatch.undo()
    assert drawn.startswith("\r\x1b[Kreplaying the streams [###")
    assert len(drawn.removeprefix("\r\x1b[K")) == shown
