"""Unit files as systemd reads them, as far as ours need it, and a systemd that listens to what a service tells it."""

from __future__ import annotations

import select
import shlex
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from tests.support.shipper import MetadataServer
from tests.support.waiting import DEADLINE_S

UNITS = Path(__file__).parents[2] / "deploy/systemd"

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


def settings(unit: Path) -> dict[str, list[str]]:
    """What a unit file sets, `Section.Name` with every value in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.setdefault(f"{section}.{name}", []).append(value)
    return found


def setting(unit: Path, name: str) -> str:
    """The one value of `Section.Name`."""
    (value,) = settings(unit)[name]
    return value


class Told(NamedTuple):
    """One message: its assignments, and the process that sent it."""

    fields: dict[str, str]
    pid: int


class Systemd:
    """Starts a unit's command as it stands, and hears what is sent to its NOTIFY_SOCKET."""

    def __init__(self, folder: Path, *, abstract: bool = False) -> None:
        path = str(folder / "notify")
        self.address = f"@{path}" if abstract else path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(f"\0{path}" if abstract else path)

    def start(self, unit: Path, server: MetadataServer) -> None:
        """Run the unit's ExecStart for `server`, whose configuration is in the environment."""
        environ = server.environ() | {"NOTIFY_SOCKET": self.address}
        server.start(command=shlex.split(setting(unit, "Service.ExecStart")), environ=environ)

    def hear(self) -> Told:
        """The next message; waits for it."""
        assert select.select([self.socket], [], [], DEADLINE_S)[0], "nothing is told"
        text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        ((_, _, credentials),) = ancillary
        pid, _, _ = _CREDENTIALS.unpack(credentials)
        return Told(dict(line.split("=", 1) for line in text.decode().splitlines()), pid)

    def hear_until(self, **fields: str) -> Told:
        """The next message that has these assignments; those before it are passed over."""
        while True:
            told = self.hear()
            if fields.items() <= told.fields.items():
                return told

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()
