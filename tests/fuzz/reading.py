"""A slow, strict reading of the kernel's lines: written from their format, without any of the product's code."""

from __future__ import annotations

import string

_HEX = frozenset(string.hexdigits)
_DIGITS = frozenset(string.digits)
_VISIBLE = frozenset(map(chr, range(0x21, 0x7F)))

Line = tuple[int, int, str, str, str, str]
"""CAT, REC (unsigned), FID, action, status, cookie."""


def line_of(data: bytes) -> Line | None:
    """A line of `hsm_actions_show_cb`: one blank between fields, fields in one order; None for anything else."""
    words = data.decode("latin-1").split(" ", 13)
    if len(words) != 14 or len(data) > 131_072:
        return None
    place = _place(words[:3])
    values = [_after(word, name) for word, name in zip(words[3:13], _NAMES, strict=True)]
    if place is None or None in values or not _is_data(words[13]):
        return None
    fid, dfid, cookies, action, archive, flags, extent, gid, datalen, status = map(str, values)
    compound, _, cookie = cookies.partition("/")
    first, _, last = extent.partition("-")
    good = (
        _is_fid(fid) and _is_fid(dfid) and all(map(_is_hex, (compound, cookie, flags, first, last, gid)))
        and _is_number(archive) and _is_number(datalen) and _is_word(action) and _is_word(status)
    )  # fmt: skip
    return (*place, fid[1:-1], action, status, cookie) if good else None


_NAMES = (
    "fid=", "dfid=", "compound/cookie=", "action=", "archive#=", "flags=", "extent=", "gid=", "datalen=", "status=",
)  # fmt: skip


def _place(words: list[str]) -> tuple[int, int] | None:
    kind, length, place = (_after(word, name) for word, name in zip(words, ("lrh=[type=", "len=", "idx="), strict=True))
    if kind is None or length is None or place is None or not place.endswith("]"):
        return None
    cat, _, rec = place[:-1].partition("/")
    if not (_is_hex(f"0x{kind}", 8) and _is_number(length, signed=False) and _is_number(cat) and _is_number(rec)):
        return None
    numbers = int(cat), int(rec)
    if any(not -(2**31) <= number < 2**32 for number in numbers):
        return None
    return numbers[0] % 2**32, numbers[1] % 2**32


def _is_data(text: str) -> bool:
    inside = _after(text, "data=[")
    if inside is None or "]" not in inside:
        return False
    behind = inside.partition("]")[2]
    return behind == "" or behind.startswith(" ")


def _after(word: str, name: str) -> str | None:
    return word[len(name) :] if word.startswith(name) else None


def _is_fid(text: str) -> bool:
    parts = text[1:-1].split(":")
    lengths = (16, 8, 8)
    return text[:1] + text[-1:] == "[]" and len(parts) == 3 and all(map(_is_hex, parts, lengths))


def _is_hex(text: str, most: int = 16) -> bool:
    return text.startswith("0x") and 1 <= len(text) - 2 <= most and set(text[2:]) <= _HEX


def _is_number(text: str, *, signed: bool = True) -> bool:
    digits = text[1:] if signed and text.startswith("-") else text
    return 1 <= len(digits) <= 10 and set(digits) <= _DIGITS


def _is_word(text: str) -> bool:
    return 1 <= len(text) <= 64 and set(text) <= _VISIBLE
