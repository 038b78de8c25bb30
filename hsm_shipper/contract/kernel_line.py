"""The kernel's lines: one HSM request record of a metadata target's llog each.

The format is the same since Lustre 2.5 (`hsm_actions_show_cb` in `lustre/mdt/mdt_hsm_cdt_actions.c`):

    lrh=[type=10680000 len=136 idx=1/3] fid=[0x200000401:0x3:0x0] dfid=[0x200000401:0x3:0x0]
    compound/cookie=0x0/0x6b02856a action=ARCHIVE archive#=7 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0
    datalen=0 status=WAITING data=[]

(on one line). `idx=CAT/REC` is the record's *place*: stable for its life, reused after it. The cookie is unique
within the MDT at any one time, except that a CANCEL carries its target's. A coordinator outside the kernel (Cray's
`mdt_ext_cdt.c`) prints both numbers of a place, 32 bits without a sign, as if they had one.
"""

from __future__ import annotations

import re
from sys import intern

import msgspec

# Matched on Latin-1 text, where each byte is one character: the groups need no decoding of their own. What follows each
# repetition is none of its characters, so it never has to give one back (`+` behind it), and need not remember where.
_HEX = r"0x[0-9a-fA-F]{1,16}+"
_INDEX = r"-?[0-9]{1,10}+"
_FID = r"0x[0-9a-fA-F]{1,16}+:0x[0-9a-fA-F]{1,8}+:0x[0-9a-fA-F]{1,8}+"
# Action and status are any printable word: a newer Lustre may have more of them. Fields may be added at the end.
_LINE = re.compile(
    rf"lrh=\[type=[0-9a-fA-F]{{1,8}}+ len=[0-9]{{1,10}}+ idx=({_INDEX})/({_INDEX})\]"
    rf" fid=\[({_FID})\] dfid=\[{_FID}\]"
    rf" compound/cookie={_HEX}/({_HEX})"
    rf" action=([!-~]{{1,64}}+) archive#=-?[0-9]{{1,10}}+ flags={_HEX} extent={_HEX}-{_HEX} gid={_HEX}"
    r" datalen=-?[0-9]{1,10}+ status=([!-~]{1,64}+) data=\[[^\]]*+\](?: .*)?",
    re.DOTALL,
)
_PLACE = re.compile(rf"\bidx=({_INDEX})/({_INDEX})\]".encode())
# The kernel's have some 240. What is made of a longer one would be no event (`event.DATA_MAX_BYTES`).
UNDERSTOOD_MAX_BYTES = 128 * 1024
INDEX_MAX = 0xFFFF_FFFF  # both halves of idx are __u32 in struct llog_cookie
INDEX_MIN = -0x8000_0000  # which some print as int


class ActionRecord(msgspec.Struct, frozen=True, gc=False):
    """What the shipper needs of one line.

    `place` is packed (see `pack_place`); `fid` has no brackets; `cookie` is the kernel's hex text, because a JSON
    number would lose its low bits in consumers that read numbers as doubles.
    """

    place: int
    fid: str
    action: str
    status: str
    cookie: str

    @property
    def action_key(self) -> str:
        """`fid:ACTION`, for people and older consumers: it identifies no single action."""
        return f"{self.fid}:{self.action}"


def unsigned(number: int) -> int:
    """A `__u32` that may have been printed as an int."""
    return number & 0xFFFF_FFFF


def pack_place(cat_idx: int, rec_idx: int) -> int:
    """One integer for a place, sorted as the kernel sorts its listing: by CAT, then REC."""
    return cat_idx << 32 | rec_idx


def unpack_place(place: int) -> tuple[int, int]:
    """(cat_idx, rec_idx) of a packed place."""
    return place >> 32, place & INDEX_MAX


def parse_line(line: bytes) -> ActionRecord | None:
    """Parse one line without its newline; None if it is not understood."""
    match = _LINE.fullmatch(line.decode("latin-1"))
    if match is None or len(line) > UNDERSTOOD_MAX_BYTES:
        return None
    cat, rec, fid, cookie, action, status = match.groups()
    cat_idx, rec_idx = int(cat), int(rec)
    if not (0 <= cat_idx <= INDEX_MAX and 0 <= rec_idx <= INDEX_MAX):
        place = _place_of(cat_idx, rec_idx)
        return None if place is None else ActionRecord(place, fid, action, status, cookie)
    return ActionRecord(cat_idx << 32 | rec_idx, fid, intern(action), intern(status), cookie)


def readable_place(line: bytes) -> int | None:
    """The packed place of a line that is otherwise not understood, if its `idx=` still is."""
    match = _PLACE.search(line)
    if match is None:
        return None
    return _place_of(int(match[1]), int(match[2]))


def _place_of(cat_idx: int, rec_idx: int) -> int | None:
    """The packed place of any two numbers; None where they are none of a place."""
    if not (INDEX_MIN <= cat_idx <= INDEX_MAX and INDEX_MIN <= rec_idx <= INDEX_MAX):
        return None
    return unsigned(cat_idx) << 32 | unsigned(rec_idx)
