"""The copytools registered with an MDT's coordinator, and the requests that they work on."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import UUID

from .records import SUCCEED, Record

_COPYTOOLS: Final = 2


@dataclass(slots=True, eq=False)
class _Copytool:
    uuid: UUID
    current: int = 0
    ok: int = 0
    errors: int = 0


class Copytools:
    """What the coordinator knows of its copytools: in memory only, gone when it stops."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._copytools: list[_Copytool] = []
        self._busy: dict[Record, _Copytool] = {}
        self._abandoned: list[Record] = []
        self.register()

    @property
    def registered(self) -> bool:
        """Whether there are any."""
        return bool(self._copytools)

    def register(self) -> None:
        """They connect, each with a new UUID."""
        self._copytools = [_Copytool(UUID(int=self._rng.getrandbits(128), version=4)) for _ in range(_COPYTOOLS)]

    def unregister(self) -> None:
        """They are forgotten, with all that they had to do."""
        self._copytools.clear()
        self._busy.clear()
        self._abandoned.clear()

    def kill(self) -> None:
        """All of them are killed and started again, as the same clients: what they had to do stays active for ever."""
        self._abandoned += self._busy
        self._busy.clear()
        self._copytools = [_Copytool(copytool.uuid) for copytool in self._copytools]

    def begin(self, record: Record) -> None:
        """A copytool, if there is any, takes a request."""
        if self._copytools:
            copytool = self._copytools[record.cookie % _COPYTOOLS]
            copytool.current += 1
            self._busy[record] = copytool

    def report(self, record: Record, status: str) -> None:
        """A copytool says how a request ended; for one that it does not have, nobody listens."""
        copytool = self._busy.get(record)
        if copytool is None:
            return
        if status == SUCCEED:
            copytool.ok += 1
        else:
            copytool.errors += 1

    def drop(self, record: Record) -> None:
        """A request is no longer anybody's work."""
        copytool = self._busy.pop(record, None)
        if copytool is not None:
            copytool.current -= 1

    def running(self) -> list[Record]:
        """The requests that copytools work on."""
        return list(self._busy)

    def active(self) -> list[Record]:
        """The requests that the coordinator takes for running: they have slots."""
        return [*self._busy, *self._abandoned]

    def __len__(self) -> int:
        return len(self._busy) + len(self._abandoned)

    def __contains__(self, record: Record) -> bool:
        return record in self._busy

    def lines(self) -> list[bytes]:
        """The content of `agents`."""
        return [
            f"uuid={tool.uuid} archive_id=ANY "
            f"requests=[current:{tool.current} ok:{tool.ok} errors:{tool.errors}]\n".encode("ascii")
            for tool in self._copytools
        ]
