"""When a program has last looked, for `status`: to supervisord one that hangs is RUNNING like any other."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def last_look_path(run_dir: Path, program: str) -> Path:
    """The file whose time of modification tells it."""
    return run_dir / f"{program}.looked"


def note_look(run_dir: Path, program: str) -> None:
    """The program has looked just now. A `run_dir` that cannot be written is said by others, and put back."""
    path = last_look_path(run_dir, program)
    with contextlib.suppress(OSError):
        try:
            os.utime(path)
        except FileNotFoundError:
            path.touch(0o640)


def look_age_s(run_dir: Path, program: str, now: float) -> float | None:
    """How long ago that was at `now`, seconds since the epoch; None where no file tells."""
    try:
        return max(0.0, now - last_look_path(run_dir, program).stat().st_mtime)
    except OSError:
        return None
