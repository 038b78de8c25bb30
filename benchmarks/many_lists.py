"""Long lists that are made in a second a million lines, and changed in place: the simulator's records take too much.

All lines of a list have one length, so that where a status stands is known without reading. A worker that holds the
file finds it changed, as the kernel's is; nobody replaces it.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from tests.simulator import SimulatedMds

_STATUSES = (b"WAITING", b"STARTED")  # of one length
# Enough of each that all have as many digits, and no more records in a llog than the kernel puts there.
_FIRST_CATALOGUE, _FIRST_RECORD, _RECORDS = 10, 10_000, 50_000
_FIRST_OBJECT = 0x100000
_FIRST_COOKIE = 0x10000000
_LINES_AT_A_TIME = 10_000


class LongListing:
    """The list of the MDT with this number, `lines` long, on a simulated server."""

    def __init__(self, mds: SimulatedMds, number: int, lines: int) -> None:
        self.mdt = f"elm-MDT{number:04x}"
        self.lines = lines
        self._sequence = 0x200000401 + number * 0x40000000
        mds.add_folders(self.mdt)
        mds.write_hsm_control(self.mdt, "enabled")
        mds.write_actions(self.mdt, (self._some(start) for start in range(0, lines, _LINES_AT_A_TIME)))
        self.path = mds.actions_path(self.mdt)
        self._turns = 0

    def change(self, step: int) -> int:
        """Give every `step`-th line its other status, others each time; returns how many."""
        line_bytes = len(self._line(0))
        at_status = self._line(0).index(_STATUSES[0])
        chosen = range(self._turns % step, self.lines, step)
        self._turns += 1
        with self.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as listing:
            for number in chosen:
                at = number * line_bytes + at_status
                before = listing[at : at + len(_STATUSES[0])]
                listing[at : at + len(_STATUSES[0])] = _STATUSES[before == _STATUSES[0]]
        return len(chosen)

    def empty(self) -> None:
        """Nothing is left to read, nor on the disk."""
        Path(self.path).write_bytes(b"")

    def _some(self, start: int) -> bytes:
        return b"".join(map(self._line, range(start, min(start + _LINES_AT_A_TIME, self.lines))))

    def _line(self, number: int) -> bytes:
        catalogue, record = divmod(number, _RECORDS)
        fid = b"0x%x:0x%x:0x0" % (self._sequence, _FIRST_OBJECT + number)
        return (
            b"lrh=[type=10680000 len=136 idx=%d/%d] fid=[%s] dfid=[%s] compound/cookie=0x0/0x%x action=ARCHIVE "
            b"archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 datalen=0 status=WAITING data=[]\n"
            % (_FIRST_CATALOGUE + catalogue, _FIRST_RECORD + record, fid, fid, _FIRST_COOKIE + number)
        )
