"""A record of the HSM actions llog, and the line that the kernel prints for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ARCHIVE: Final = "ARCHIVE"
RESTORE: Final = "RESTORE"
REMOVE: Final = "REMOVE"
CANCEL: Final = "CANCEL"

WAITING: Final = "WAITING"
STARTED: Final = "STARTED"
SUCCEED: Final = "SUCCEED"
FAILED: Final = "FAILED"
CANCELED: Final = "CANCELED"
FINAL_STATUSES: Final = frozenset({SUCCEED, FAILED, CANCELED})

IMPLICIT_RESTORE: Final = 0x4
"""The flag of a restore that a read of a released file caused."""

_SHOWN_DATA_BYTES: Final = 5


def record_bytes(data: bytes) -> int:
    """The room that a record with this data takes in the llog, in bytes: the line's `len=`."""
    return 136 + (len(data) + 7) // 8 * 8


def place_key(cat: int, rec: int) -> int:
    """A place as one number: small enough to keep a million of, and in the order of the listing."""
    return cat << 16 | rec


@dataclass(slots=True, eq=False)
class Record:
    """One request, as it stands in the llog.

    Read it freely; change it only through the commands of its `SimulatedMdt`, which keep the coordinator's own books.
    Statuses and actions are plain words, so that a test can also use one that no Lustre prints yet.
    """

    cat: int
    rec: int
    fid: str
    """FIDs have no brackets here; the line has them."""
    dfid: str
    cookie: int
    compound_id: int
    action: str
    archive_id: int
    flags: int
    data: bytes
    status: str
    changed_at: float
    target: Record | None = None
    """What a CANCEL is to cancel."""
    _rendered: bytes | None = None

    @property
    def place(self) -> tuple[int, int]:
        """The `idx=CAT/REC` of the line."""
        return self.cat, self.rec

    @property
    def key(self) -> int:
        """The place as one number, in the order of the listing."""
        return place_key(self.cat, self.rec)

    @property
    def line(self) -> bytes:
        """The kernel's line, without its newline."""
        return self.rendered()[:-1]

    def rendered(self) -> bytes:
        """The kernel's line with its newline, made anew only after a change: big listings are mostly unchanged."""
        if self._rendered is None:
            # The kernel prints the unsigned archive id as a signed 32-bit number.
            archive_id = (self.archive_id + 2**31) % 2**32 - 2**31
            self._rendered = (
                f"lrh=[type=10680000 len={record_bytes(self.data)} idx={self.cat}/{self.rec}] "
                f"fid=[{self.fid}] dfid=[{self.dfid}] "
                f"compound/cookie=0x{self.compound_id:x}/0x{self.cookie:x} "
                f"action={self.action} archive#={archive_id} flags=0x{self.flags:x} "
                "extent=0x0-0xffffffffffffffff gid=0x0 "
                f"datalen={len(self.data)} status={self.status} "
                f"data=[{self.data[:_SHOWN_DATA_BYTES].hex().upper()}]\n"
            ).encode("ascii")
        return self._rendered

    def rewrite(self, status: str, changed_at: float) -> None:
        """Change the record in place, as `llog_write` does."""
        self.status = status
        self.changed_at = changed_at
        self._rendered = None


class FidSequence:
    """New FIDs, as a client takes them: object ids count up, and a new sequence begins when they are used up."""

    _LAST_OID: Final = 0x1FFFF

    def __init__(self, first_sequence: int) -> None:
        self._sequence = first_sequence
        self._oid = 0

    def new(self) -> str:
        """The next FID, without brackets."""
        if self._oid == self._LAST_OID:
            self._sequence += 1
            self._oid = 0
        self._oid += 1
        return f"0x{self._sequence:x}:0x{self._oid:x}:0x0"
