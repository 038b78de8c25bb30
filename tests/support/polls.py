"""A worker that polls when a test says so."""

from __future__ import annotations

import threading

from hsm_shipper.process.stop_signal import StopSignal
from tests.support.waiting import DEADLINE_S


class Polls(StopSignal):
    """Lets a worker poll once for each call of `next`."""

    def __init__(self) -> None:
        self._go = threading.Semaphore(0)
        self._waits = threading.Semaphore(0)
        self._ends = False

    def wait(self, timeout_s: float) -> bool:
        """Called by the worker after a poll."""
        self._waits.release()
        assert self._go.acquire(timeout=DEADLINE_S)
        return self._ends

    def begun(self) -> None:
        """Wait for the poll at its start."""
        assert self._waits.acquire(timeout=DEADLINE_S)

    def next(self) -> None:
        """Have it poll once more, and wait for that."""
        self._go.release()
        self.begun()

    def end(self) -> None:
        """Have it end."""
        self._ends = True
        self._go.release()
