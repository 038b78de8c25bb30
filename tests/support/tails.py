"""Running `hsm-stream-tail` as installed, on the database of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.support.readings import MDT0, event_data
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S

COMMAND = str(Path(sys.executable).with_name("hsm-stream-tail"))
BANNER = "Tailing streams with prefix 'hsm:actions:*'. Press Ctrl+C to exit.\n"
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("HSM_") and name not in ("NO_COLOR", "TERM")
} | {"TZ": "UTC"}


class Tails:
    """Starts the command on one database of a server, and ends what it started."""

    def __init__(self, server: RedisServer, db: int, folder: Path) -> None:
        self.client = server.client(db)
        self.where = ["--host", server.host, "--port", str(server.port), "--db", str(db)]
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def append(self, stream: str = MDT0, entry_id: str = "*", **changes: Any) -> str:
        """Append an event; returns the id of its entry."""
        appended = self.client.xadd(stream, {"data": msgspec.json.encode(event_data(3, **changes))}, id=entry_id)
        assert isinstance(appended, bytes)
        return appended.decode()

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Start it with its output in pipes."""
        process = subprocess.Popen(
            [COMMAND, *self.where, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=self._folder, env=ENVIRONMENT | environment,
        )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [COMMAND, *self.where, *options], capture_output=True, text=True, env=ENVIRONMENT | environment,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            process.kill()
            process.communicate()


@contextmanager
def tails_on(server: RedisServer, db: int, folder: Path) -> Iterator[Tails]:
    """`Tails` that end with the block."""
    tails = Tails(server, db, folder)
    try:
        yield tails
    finally:
        tails.end()


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line of its output, waited for."""
    assert process.stdout is not None
    return process.stdout.readline()
