"""Inputs that still have their form: one value of an object, or one field of a line, is another. Changing bytes seldom
gets past a parser; what lies behind it is reached by these.
"""

from __future__ import annotations

import json
import random
from typing import Any

TOKENS = (
    b"-", b"0", b"9" * 25, b"9" * 5000, b"\n", b"\r", b"\x85", b"\xc2\x85", b" ", b"]", b"[", b'"', b"\\", b"null",
    b"-1", b"4294967296", b"1e999", b"\x00", b"\xff\xff", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[2J", b"0x", b"/",
    b"@", b"SECRET", b"%00", b"{", b"&x: *x", b"%", b";", b"'", b"-MDT0000", b'"event_type":"PURGED"', b'"cat_idx":-1',
    b'"raw":"lrh=[type=10680000 len=136 idx=1/3]', b'"hash":', b'"refresh":true', b"redis+sentinel://", b"?ssl_",
)  # fmt: skip
"""What parsers may trip over, for whoever makes inputs."""

_NUMBERS = (0, -1, 1, 2**31, -(2**31), -(2**31) - 1, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**63, 2**64, -(2**63), 10**30)
_TEXTS = (
    "", "NEW", "UPDATE", "PURGED", "0x1", "0x200000401:0x1:0x0", "0x200000401:0x1:0x0:ARCHIVE", ":", "a:", ":b",
    "0" * 32, "g" * 32, "0" * 31, " ".join(["00"] * 16), "F" * 32, "\x1b[2J", "\u202e", "\ud800", "\0", "é", "1-1",
    "true", "None",
)  # fmt: skip
_OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [1], {"a": 1}, 0.5, -0.0, 1e300, 1e-300, float("inf"))


def formed(data: bytes, seed: int) -> bytes | None:
    """An object of JSON with some of it changed; None for what is none."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change(rng, told)
    text = json.dumps(told, ensure_ascii=rng.random() < 0.7)
    if rng.random() < 0.05:  # a key that is there twice, and what JSON knows and Python does not write
        key, value = rng.choice([*told, "x"]), rng.choice(("1", "-0", "1e999", "null", '"NEW"'))
        text = f'{{"{key}":{value},{text[1:]}'
    return text.replace("Infinity", "1e999").encode("utf-8", "surrogatepass")


def _change(rng: random.Random, told: dict[str, Any]) -> None:
    keys = [*told, *_KEYS]
    key = rng.choice(keys)
    match rng.randrange(5):
        case 0:
            told.pop(key, None)
        case 1:
            told[key] = told.get(rng.choice(keys))
        case 2 if isinstance(told.get(key), str):
            told[key] = _words_changed(rng, told[key])
        case _:
            told[key] = rng.choice(rng.choice((_NUMBERS, _TEXTS, _OTHERS)))


_KEYS = (
    "event_type", "mdt", "cat_idx", "rec_idx", "fid", "action", "status", "timestamp", "raw", "hash", "cookie",
    "first_seen", "status_since", "host", "last_status", "refresh", "action_key", "x",
)  # fmt: skip


def _words_changed(rng: random.Random, text: str) -> str:
    """One field of a line is another, or gone, or there twice."""
    words = text.split(" ")
    at = rng.randrange(len(words))
    name, equals, _ = words[at].partition("=")
    value = rng.choice((*map(str, _NUMBERS), *_TEXTS, "[0x1:0x1:0x0]", "1/2]", "-1/-2]", "0x0/0x1", "[]"))
    words[at : at + 1] = rng.choice(([], [words[at]] * 2, [name + equals + value]))
    return " ".join(words)
