"""Ids of stream entries, `<milliseconds>-<sequence>`: both are 64-bit numbers, and Redis sorts by them."""

from __future__ import annotations

EMPTY_ID = "0-0"
"""Where a stream ends that never had an entry."""


def pack_id(entry_id: str | bytes) -> int:
    """One integer for an entry id, sorted as Redis sorts ids."""
    text = entry_id if isinstance(entry_id, str) else entry_id.decode()
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds) << 64 | int(sequence)


def unpack_id(entry: int) -> str:
    """The entry id of a packed one."""
    return f"{entry >> 64}-{entry & 0xFFFF_FFFF_FFFF_FFFF}"


def next_id(entry_id: str) -> str:
    """The id just past `entry_id`."""
    return unpack_id(pack_id(entry_id) + 1)


def text_of(word: bytes | str) -> str:
    """An id or a name as text: redis-py answers with bytes, or with text where it was told to decode."""
    return word.decode() if isinstance(word, bytes) else word
