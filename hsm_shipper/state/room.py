"""What a state file needs of its file system, so that what waits in it can be taken out again.

To take out is to write: every page that changes goes into SQLite's log, and from there into the file, which grows at
that by all that it holds in the log alone. On a file system without room nothing can be taken out, so nothing more may
be put in long before that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from hsm_shipper.state.database import LOG_MAX_BYTES

TIGHT_BYTES = 16 * LOG_MAX_BYTES
"""With less than this left the log is kept short: several MDTs may share the file system, and each has its log."""

# What a batch of events takes in the log and then in the file: each MDT of the folder may be about to write one.
_BATCH_BYTES = 2 * 1024 * 1024


class Room(NamedTuple):
    """What is left on the file system of a state file, and what taking out all that waits there may need of it."""

    left_bytes: int
    """With all of the log in the file."""
    needed_bytes: int


def free_bytes(path: Path) -> int:
    """What is left for us on the file system of `path`, which is there. Raises `OSError`."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def room_of(path: Path, size_bytes: int) -> Room:
    """That of a state file which has this size once all of its log is in it. Raises `OSError`.

    The log holds what a file has about once, and not much more than `LOG_MAX_BYTES`: small files need little, be their
    file system ever so full.
    """
    not_in_file = max(0, size_bytes - path.stat().st_size)
    mdts = sum(1 for _ in path.parent.glob(f"*{path.suffix}"))
    return Room(free_bytes(path) - not_in_file, min(2 * LOG_MAX_BYTES, size_bytes) + mdts * _BATCH_BYTES)
