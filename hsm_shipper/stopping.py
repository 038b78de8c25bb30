"""Waiting that a stop signal ends at once."""

from __future__ import annotations

import signal
import time

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


class StopSignal:
    """SIGTERM and SIGINT, taken up where this process asks for them and nowhere else.

    They are blocked from here on, so that none can interrupt a write half way; a child would inherit that.
    """

    def __init__(self) -> None:
        self._received = False
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds; True, and at once, if this process has been asked to stop."""
        if not self._received:
            info = signal.sigtimedwait(_STOP_SIGNALS, max(0.0, timeout_s))
            # A process that SIGSTOP held beyond its timeout gets what is no signal at all from CPython (to 3.13).
            self._received = info is not None and info.si_signo in _STOP_SIGNALS
        return self._received


class Cadence:
    """Ticks every `interval_s` seconds of the monotonic clock; one that comes too late is skipped, not run twice."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next = time.monotonic() + interval_s

    def seconds_to_next(self) -> float:
        """How long to wait for the next tick."""
        late = time.monotonic() - self._next
        if late >= 0:
            self._next += (late // self._interval_s + 1) * self._interval_s
        return self._next - time.monotonic()
