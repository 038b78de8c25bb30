"""Closes a held actions file when its MDT leaves, whatever the process does meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from hsm_shipper.lustre.actions_file import ActionsFile

LOOK_INTERVAL_S = 1.0


@contextlib.contextmanager
def closed_when_gone(actions_file: ActionsFile) -> Iterator[None]:
    """Close it within a second of its path's going, and at the end of the block.

    In a thread, since an umount, and the unloading of the module after it, must not wait for a poll: that may wait for
    Redis for a quarter of a minute, or replay a long stream. It costs a stat() a second.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_INTERVAL_S):
            actions_file.close_if_gone()

    thread = threading.Thread(target=look, name="departure", daemon=True)
    thread.start()
    try:
        yield
    finally:
        actions_file.close()
        over.set()
        thread.join()
