"""A plug-in for supervisord that lets signals end its waiting.

supervisord was written for a Python whose poll() a signal interrupts. Since PEP 475 it sleeps on, so that a stop
request, or the end of the last program, waits for the end of its one-second tick: two seconds of every stop. Here the
interpreter writes each signal into a pipe that supervisord polls with the rest. Named in supervisord.conf as an RPC
interface, which is supervisord's way to load code; it offers no method.
"""

from __future__ import annotations

import os
import signal
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


def make_wakeup(supervisord: Any) -> object:
    """The factory that supervisord calls at start, and again at a reload, when it has closed the last pipe itself."""
    members = supervisord.options.get_socket_map()
    for fd in [fd for fd, member in members.items() if isinstance(member, _Wakeup)]:
        del members[fd]
    wakeup = _Wakeup()
    members[wakeup.read_fd] = wakeup
    return object()
