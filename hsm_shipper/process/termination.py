"""Ending on SIGTERM and SIGHUP as by default, but only after what was begun has been put away."""

from __future__ import annotations

import os
import signal

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """A signal came that ends this process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def die(self) -> None:
        """Die of that signal, as whoever sent it expects."""
        signal.signal(self.number, signal.SIG_DFL)
        os.kill(os.getpid(), self.number)


def terminable() -> None:
    """From now on these signals raise `Terminated`; one that is ignored (`nohup`) stays so."""

    def stop(number: int, _frame: object) -> None:
        raise Terminated(number)

    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, stop)


def uninterrupted() -> None:
    """From now on neither Ctrl+C nor these signals interrupt: this process is about to end."""
    for number in (*_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
