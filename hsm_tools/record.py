"""The kernel's line of an action with all its fields: what `contract.kernel_line` leaves aside, for consumers."""

from __future__ import annotations

import re

import msgspec

from hsm_shipper.contract.kernel_line import parse_line, unpack_place, unsigned

_WHOLE_FILE = 0xFFFF_FFFF_FFFF_FFFF
ARCHIVE_KEY = " archive#="
_ARCHIVE = re.compile(r"(-?[0-9]{1,10})(?: |\Z)")


class HsmRecord(msgspec.Struct, frozen=True, gc=False):
    """One HSM request record of an MDT's llog, as its line shows it.

    FIDs have no brackets. `extent_length_bytes` is None for an extent that reaches to the end of the file, whatever
    its length. `data` is what the kernel shows of the request's data: hex digits, at most 10 of them; `datalen_bytes`
    is its true length. `dfid` is the FID of the data (it differs from `fid` on a running RESTORE).
    """

    cat_idx: int
    rec_idx: int
    fid: str
    dfid: str
    compound_id: str
    cookie: str
    action: str
    archive_id: int
    flags: int
    extent_offset_bytes: int
    extent_length_bytes: int | None
    gid: int
    datalen_bytes: int
    status: str
    data: str


def parse_record(line: str) -> HsmRecord | None:
    """The record of one line without its newline; None for every line that `parse_line` does not understand."""
    understood = parse_line(line.encode(errors="surrogatepass"))
    if understood is None:
        return None
    # All fields come in one order, and none but the last holds a blank: the pattern has seen to it.
    dfid, ids, _action, archive, flags, extent, gid, datalen, _status, data = line.split(" ", 13)[4:]
    compound_id, _, cookie = _value(ids).partition("/")
    offset, _, length = _value(extent).partition("-")
    cat_idx, rec_idx = unpack_place(understood.place)
    return HsmRecord(
        cat_idx=cat_idx,
        rec_idx=rec_idx,
        fid=understood.fid,
        dfid=_value(dfid)[1:-1],
        compound_id=compound_id,
        cookie=cookie,
        action=understood.action,
        archive_id=unsigned(int(_value(archive))),  # the kernel prints it as an int
        flags=int(_value(flags), 16),
        extent_offset_bytes=int(offset, 16),
        extent_length_bytes=None if int(length, 16) == _WHOLE_FILE else int(length, 16),
        gid=int(_value(gid), 16),
        datalen_bytes=int(_value(datalen)),
        status=understood.status,
        data=_value(data)[1:].partition("]")[0],
    )


def archive_id(text: str) -> int | None:
    """The archive that a line's text behind `ARCHIVE_KEY` names; None if it names none."""
    found = _ARCHIVE.match(text)
    return None if found is None else unsigned(int(found[1]))


def _value(field: str) -> str:
    return field.partition("=")[2]
