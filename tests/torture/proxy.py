"""A proxy in front of Redis that can be made to delay, to cut and to swallow."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

from tests.support.servers import RedisServer

_CHUNK_BYTES = 65_536


class Proxy:
    """Listens on a free port of 127.0.0.1, and passes on to `server` what comes, as its faults allow."""

    def __init__(self, server: RedisServer, seed: int) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self.delay_s = 0.0
        """How long every chunk is kept."""
        self.swallows = 0.0
        """The share of replies that are lost, and their connections with them."""
        self.cuts = 0.0
        """The share of requests at which the connection breaks, before anything of them has come through."""
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection that there is."""
        for end in self._ends:
            _close(end)
        self._ends = []

    def close(self) -> None:
        """End."""
        _close(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            try:
                far = socket.create_connection((self._server.host, self._server.port), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._ends = [end for end in self._ends if end.fileno() >= 0] + [near, far]
            for source, target, are_replies in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pass_on, args=[source, target, are_replies], daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, are_replies: bool) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := source.recv(_CHUNK_BYTES):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if self._rng.random() < (self.swallows if are_replies else self.cuts):
                    break
                target.sendall(chunk)
        _close(source)
        _close(target)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
