"""Text that a terminal would obey, or that shows as something else, and a Redis whose every answer is such an error."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

# Clears the screen, sets the title, moves the cursor, C1 controls, right to left, an invisible mark, a line of its own.
EVIL = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egpj\u2066\u200b\x7f\nFAKE line"


def obeyed(text: str) -> str:
    """What of an output a terminal would obey or hide: empty for lines that show what they are."""
    return "".join(character for character in text if character != "\n" and not character.isprintable())


def strange(told: Any, evil: str = EVIL) -> Any:
    """An object with `evil` behind every text in it."""
    if isinstance(told, dict):
        return {key: strange(value, evil) for key, value in told.items()}
    if isinstance(told, list):
        return [strange(value, evil) for value in told]
    return told + evil if isinstance(told, str) else told


class EvilRedis:
    """Listens on a free port of 127.0.0.1, and answers every command with an error that begins with `code`."""

    def __init__(self, code: str) -> None:
        self._reply = f"-{code} {EVIL}".replace("\r", "").replace("\n", "").encode() + b"\r\n"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            threading.Thread(target=self._answer, args=(near,), daemon=True).start()

    def _answer(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, near.makefile("rb") as lines:
            while header := lines.readline():
                for _ in range(int(header[1:])):
                    lines.read(int(lines.readline()[1:]) + 2)
                near.sendall(self._reply)
