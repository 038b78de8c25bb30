"""A TCP relay in front of Redis. As a proxy does, it keeps its connections where they are when it is moved."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.support.servers import RedisServer

_CHUNK_BYTES = 65_536


class Relay:
    """Listens on a free port of 127.0.0.1; what connects from now on is passed on to `server`."""

    host = "127.0.0.1"

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        """Change it to move the relay: connections that there are stay with the server that they reached."""
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End, and all connections with it."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            _end(end)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            try:
                far = socket.create_connection((self.server.host, self.server.port))
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=[source, target], daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
    _end(source)
    _end(target)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
