"""A plug-in for supervisord that tells systemd how the shipper is, where systemd has started it: sd_notify(3).

Named in supervisord.conf like `wakeup`. supervisord's process is the one that systemd listens to (its main process,
`NotifyAccess=main`), and it alone lives as long as the service and knows a stop from a reload. Discovery tells it by
RPC when it has looked. The socket's name is taken out of the environment, so that no program inherits it.

There is no watchdog: workers go on while supervisord hangs, and to kill it would end them.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import Any

from hsm_shipper.supervision.supervisord import DISCOVERY, WATCHING

SOCKET_VARIABLE = "NOTIFY_SOCKET"


class _Notifier:
    """Tells systemd; never raises, for that would end supervisord, and never waits for systemd either."""

    def __init__(self, supervisord: Any, address: str) -> None:
        from supervisor import events  # late, as in `run_folder`

        self._options = supervisord.options
        self._address = address
        self._untold = ""
        self._has_failed = False
        events.subscribe(events.RemoteCommunicationEvent, self._message)
        for ended in (
            events.ProcessStateBackoffEvent,
            events.ProcessStateExitedEvent,
            events.ProcessStateFatalEvent,
            events.ProcessStateStoppedEvent,
        ):
            events.subscribe(ended, self._program_ended)
        events.subscribe(events.SupervisorStoppingEvent, self._stopping)
        events.subscribe(events.Tick5Event, self._tell)

    def _message(self, event: Any) -> None:
        if event.type == WATCHING:
            self._say("READY=1", f"STATUS={event.data}")

    def _program_ended(self, event: Any) -> None:
        if event.process.config.name == DISCOVERY and self._mood() == "RUNNING":
            self._say("STATUS=discovery does not run: MDTs that come and go are not noticed; see the log")

    def _stopping(self, _event: object) -> None:
        if self._mood() == "RESTARTING":
            self._say("RELOADING=1", "STATUS=stopping and starting everything")
        else:
            self._say("STOPPING=1", "STATUS=stopping the workers")

    def _mood(self) -> str:
        from supervisor.states import getSupervisorStateDescription

        return str(getSupervisorStateDescription(self._options.mood))

    def _say(self, *assignments: str) -> None:
        self._untold = "\n".join(assignments)
        self._tell()

    def _tell(self, _event: object = None) -> None:
        """Send what is to be told, if anything is; every five seconds again until systemd has taken it."""
        if not self._untold:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto(self._untold.encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                self._options.logger.critical(f"cannot tell systemd how we are: {error}; tried again every 5 s")
            self._has_failed = True
            return
        self._untold, self._has_failed = "", False


@cache
def _address() -> str:
    """Where systemd listens, '' without one; asked once, for it is taken away from the environment."""
    name = os.environ.pop(SOCKET_VARIABLE, "")
    return f"\0{name[1:]}" if name.startswith("@") else name  # an abstract socket


def make_notifier(supervisord: Any) -> object:
    """The factory that supervisord calls at start, and again at a reload, when it has forgotten all subscriptions."""
    return _Notifier(supervisord, _address()) if _address() else object()
