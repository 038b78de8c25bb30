"""Waiting that a stop signal ends at once, and handlers of signals for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def handled(signals: Iterable[int], handler: signal.Handlers | Callable[[int, Any], object]) -> Iterator[None]:
    """In the body these signals meet `handler`; behind it what they met before."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
