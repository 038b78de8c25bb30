"""A plug-in for supervisord that lets signals end its waiting.

supervisord was written for a Python whose poll() a signal interrupts. Since PEP 475 it sleeps on, so that a stop
request, or the end of the last program, waits for the end of its one-second tick: two seconds of every stop. Here the
interpreter writes each signal into a pipe that supervisord polls with the rest. Named in supervisord.conf as an RPC
interface, which is supervisord's way to load code; it offers no method. None of this reaches supervisord's children.
"""

from __future__ import annotations

import contextlib
import os
import signal
from functools import cache
from typing import Any


class _Wakeup:
    """One end of a pipe, as supervisord's loop wants its members."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()
        for fd in (self.read_fd, self._write_fd):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        os.write(self._write_fd, b"\0")  # programs start after the first wait: have none

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        os.read(self.read_fd, 4096)

    def handle_error(self) -> None:
        """Nothing to do: the pipe was empty after all."""


class _Forks:
    """Keeps supervisord's ways with signals out of its children, from the fork on and not only from the exec.

    A child closes all descriptors before it becomes a program. A TERM in that time would be taken by the handler that
    it inherits and forgotten with the exec, and the interpreter would write it into our pipe, or complain that the pipe
    is closed. So signals wait while supervisord forks, and find their default action in the child: TERM ends it.

    And of the 8192 descriptors that supervisord may have, which the child would close one by one, some 10 ms of every
    start of a program, it is told of those only that are open.
    """

    options: Any = None
    """supervisord's own, in which a child looks up how far it has to close."""

    def __init__(self) -> None:
        self._mask: set[int] = set()
        os.register_at_fork(before=self._before, after_in_parent=self._unblock, after_in_child=self._in_child)

    def _before(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        self._unblock()
        with contextlib.suppress(OSError):
            self.options.minfds = 1 + max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - no Path for each


@cache
def _forks() -> _Forks:
    """The one of this process: what is registered for forks stays registered."""
    return _Forks()


def make_wakeup(supervisord: Any) -> object:
    """The factory that supervisord calls at start, and again at a reload, when it has closed the last pipe itself."""
    _forks().options = supervisord.options
    members = supervisord.options.get_socket_map()
    for fd in [fd for fd, member in members.items() if isinstance(member, _Wakeup)]:
        del members[fd]
    wakeup = _Wakeup()
    members[wakeup.read_fd] = wakeup
    return object()
