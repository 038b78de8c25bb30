"""A bar on a terminal's stderr for what takes long; nothing anywhere else."""

from __future__ import annotations

import os
import sys
import time

_QUIET_S = 1.0
_INTERVAL_S = 0.1
_BAR_COLUMNS = 30
_CLEAR = "\r\x1b[K"
_USUAL_COLUMNS = 80


class ProgressBar:
    """One line that is drawn over, from a second after `begin` on. `text` and `label` are safe for a terminal."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._label, self._total = "", 0
        self._due_s = 0.0
        self._drawn = False

    def begin(self, label: str, total: int) -> None:
        """Something new begins, of `total` entries."""
        self.clear()
        self._label, self._total = label, total
        self._due_s = time.monotonic() + _QUIET_S

    def __call__(self, done: int) -> None:
        """So many entries are done."""
        part = min(1.0, done / self._total) if self._total else 1.0
        bar = "#" * round(part * _BAR_COLUMNS)
        self._draw(f"{self._label} [{bar:<{_BAR_COLUMNS}}] {part:4.0%} of {self._total:,} entries")

    def say(self, text: str) -> None:
        """What is being waited for."""
        self._draw(f"{self._label}: {text}")

    def clear(self) -> None:
        """Take the line away, before anything else is written."""
        if self._drawn:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._drawn = False

    def _draw(self, text: str) -> None:
        now_s = time.monotonic()
        if self._on_terminal and now_s >= self._due_s:
            self._due_s = now_s + _INTERVAL_S
            self._drawn = True
            # In a second line it would stay for good, ten times a second.
            sys.stderr.write(f"{_CLEAR}{text[: _columns() - 1]}")
            sys.stderr.flush()


def _columns() -> int:
    """Of the terminal as it is now; of one that does not tell, such as a serial console, as many as most have."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS
