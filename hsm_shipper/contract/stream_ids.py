"""Ids of stream entries, `<milliseconds>-<sequence>`: both are 64-bit numbers, and Redis sorts by them."""

from __future__ import annotations

import re

EMPTY_ID = "0-0"
"""Where a stream ends that never had an entry."""

_ID = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})")
_HALF_MAX = 0xFFFF_FFFF_FFFF_FFFF


def is_entry_id(text: str) -> bool:
    """Whether `text` is an id as Redis prints it."""
    match = _ID.fullmatch(text)
    return match is not None and int(match[1]) <= _HALF_MAX and int(match[2]) <= _HALF_MAX


def pack_id(entry_id: str | bytes) -> int:
    """One integer for an entry id, sorted as Redis sorts ids."""
    text = entry_id if isinstance(entry_id, str) else entry_id.decode()
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds) << 64 | int(sequence)


def unpack_id(entry: int) -> str:
    """The entry id of a packed one."""
    return f"{entry >> 64}-{entry & _HALF_MAX}"


def milliseconds_of(entry: int) -> int:
    """When the entry of a packed id was added, by the server's clock: one moment for all that one script adds."""
    return entry >> 64


def next_id(entry_id: str) -> str:
    """The id just past `entry_id`."""
    return unpack_id(pack_id(entry_id) + 1)


def text_of(word: bytes | str) -> str:
    """An id or a name as text: redis-py answers with bytes, or with text where it was told to decode."""
    return word.decode() if isinstance(word, bytes) else word
