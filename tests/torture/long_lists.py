"""Long lists that change a lot, at little cost: the load of many MDTs comes from one process."""

from __future__ import annotations

import random
from pathlib import Path

_RECS_IN_A_CAT = 60_000
_NEXT = {"WAITING": "STARTED", "STARTED": "SUCCEED", "SUCCEED": "FAILED", "FAILED": "WAITING"}


def _line(mdt: int, number: int, status: str) -> bytes:
    cat, rec = divmod(number, _RECS_IN_A_CAT)
    fid = f"0x{0x200000401 + mdt:x}:0x{number + 1:x}:0x0"
    return (
        f"lrh=[type=10680000 len=136 idx={cat + 1}/{rec + 1}] fid=[{fid}] dfid=[{fid}] "
        f"compound/cookie=0x0/0x{0x6B000000 + number:x} action=ARCHIVE archive#=1 flags=0x0 "
        f"extent=0x0-0xffffffffffffffff gid=0x0 datalen=0 status={status} data=[]\n"
    ).encode()


class LongList:
    """The list of the MDT of that number: actions come at its end, and change and go all over it."""

    def __init__(self, actions: Path, mdt: int, lines: int, changes: int) -> None:
        self._actions = actions
        self._mdt = mdt
        self._rng = random.Random(mdt)
        self._come = max(1, changes // 4)  # as many go, and twice as many change
        self._next = lines
        self._actions_there = [(number, "WAITING") for number in range(lines)]
        self._lines = [_line(mdt, *action) for action in self._actions_there]

    def step(self) -> None:
        """Let actions come, change and go."""
        places = self._rng.sample(range(len(self._lines)), 3 * self._come)
        for at in places[self._come :]:
            number, status = self._actions_there[at]
            self._actions_there[at] = number, _NEXT[status]
            self._lines[at] = _line(self._mdt, number, _NEXT[status])
        for at in sorted(places[: self._come], reverse=True):
            del self._actions_there[at], self._lines[at]
        for number in range(self._next, self._next + self._come):
            self._actions_there.append((number, "WAITING"))
            self._lines.append(_line(self._mdt, number, "WAITING"))
        self._next += self._come

    def write(self) -> None:
        """Show it."""
        new = self._actions.with_name(".actions.new")
        new.write_bytes(b"".join(self._lines))
        new.replace(self._actions)

    @property
    def lines(self) -> list[bytes]:
        """The list, each line with its newline."""
        return self._lines
