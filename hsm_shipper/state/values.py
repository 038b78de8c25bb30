"""What a value of a state file may be: SQLite keeps whatever got into a column, be it damage or a person's. Pure.

By columns, some hundred rows at a time: looked at one by one, 350,000 rows would take a worker's start half as long
again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from hsm_shipper.contract.action_state import NO_DIGEST, UNKNOWN_ENTRY
from hsm_shipper.contract.event import SECONDS_MAX
from hsm_shipper.contract.kernel_line import INDEX_MAX
from hsm_shipper.contract.stream_ids import is_entry_id

_INTEGER = frozenset({int})
_TEXT = frozenset({str})
_NULL = frozenset({type(None)})
_NO_HEX = NO_DIGEST.hex()
# Ids as servers give them; `is_entry_id` decides on others. Whoever takes in a number reads its digits anew.
_USUAL_IDS = re.compile(r"(?:[1-9][0-9]{0,17}-(?:0|[1-9][0-9]{0,17}) )*")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHOWN_MAX = 60  # characters
_EXAMPLES_MAX = 3


class ImpossibleValue(ValueError):
    """A value that no worker writes."""


def _impossible(column: str, found: Iterable[Any]) -> ImpossibleValue:
    shown = sorted({repr(value)[:_SHOWN_MAX] for value in found})
    return ImpossibleValue(f"{column} is {', '.join(shown[:_EXAMPLES_MAX])}")


Struct = TypeVar("Struct", bound=msgspec.Struct)


def struct(row: Sequence[Any], kind: type[Struct]) -> Struct:
    """A row with a column for each field of `kind`, whose types say what may be in it."""
    try:
        return msgspec.convert(dict(zip(kind.__struct_fields__, row, strict=True)), kind)
    except msgspec.ValidationError as error:
        raise ImpossibleValue(str(error)) from None


def places(cat_idx: Sequence[Any], rec_idx: Sequence[Any]) -> list[int]:
    """Packed places."""
    for column, values in (("cat_idx", cat_idx), ("rec_idx", rec_idx)):
        _check_types(column, values, _INTEGER)
        if min(values) < 0 or max(values) > INDEX_MAX:
            raise _impossible(column, (min(values), max(values)))
    return [cat << 32 | rec for cat, rec in zip(cat_idx, rec_idx, strict=True)]


def words(column: str, values: Sequence[Any]) -> Sequence[str]:
    """Texts that say something."""
    _check_types(column, values, _TEXT)
    if "" in values:
        raise _impossible(column, [""])
    return values


def cookies(values: Sequence[Any]) -> list[bytes]:
    """Cookies as bytes, empty where the stream does not tell them."""
    _check_types("cookie", values, _TEXT | _NULL)
    if "" in values:
        raise _impossible("cookie", [""])
    return _encoded(values, b"")


def digests(values: Sequence[Any]) -> list[bytes]:
    """MD5s, 16 bytes each; `NO_DIGEST` where the stream does not tell it."""
    _check_types("hash", values, _TEXT | _NULL)
    texts = [_NO_HEX if value is None else value for value in values] if None in values else values
    try:
        whole = bytes.fromhex("".join(texts))
    except ValueError:
        whole = b""
    if len(whole) != 16 * len(texts) or set(map(len, texts)) != {32}:
        raise _impossible("hash", (text for text in texts if not re.fullmatch("[0-9a-fA-F]{32}", text)))
    return [whole[at : at + 16] for at in range(0, len(whole), 16)]


def times(column: str, values: Sequence[Any]) -> Sequence[int | None]:
    """Whole seconds since the epoch, None where the stream does not tell."""
    _check_types(column, values, _INTEGER | _NULL)
    told = [value for value in values if value is not None] if None in values else values
    if told and (min(told) < -SECONDS_MAX or max(told) > SECONDS_MAX):
        raise _impossible(column, (min(told), max(told)))
    return values


def entries(values: Sequence[Any]) -> list[bytes]:
    """Ids of entries as the server's bytes; `UNKNOWN_ENTRY` where that is not known."""
    _check_types("entry_id", values, _TEXT | _NULL)
    told = [value for value in values if value is not None] if None in values else values
    joined = " ".join([*told, ""])
    if joined.count(" ") != len(told) or not _USUAL_IDS.fullmatch(joined):
        wrong = [value for value in told if not is_entry_id(value)]
        if wrong:
            raise _impossible("entry_id", wrong)
    return _encoded(values, UNKNOWN_ENTRY)


def stream_id(column: str, value: Any) -> str:
    """An id that a stream ends at."""
    if not isinstance(value, str) or not is_entry_id(value):
        raise _impossible(column, [value])
    return value


def count(column: str, value: Any) -> int:
    """How many there are."""
    if not isinstance(value, int) or value < 0:
        raise _impossible(column, [value])
    return value


def newest_entry(entry_id: Any, sha1: Any) -> tuple[str | None, str | None]:
    """Id and SHA-1 of an entry, both None without one."""
    if entry_id is None and sha1 is None:
        return None, None
    if not isinstance(sha1, str) or not _SHA1.fullmatch(sha1):
        raise _impossible("newest_entry_sha1", [sha1])
    return stream_id("newest_entry_id", entry_id), sha1


def _encoded(texts: Sequence[str | None], unknown: bytes) -> list[bytes]:
    if None in texts:
        return [unknown if text is None else text.encode() for text in texts]
    return list(map(str.encode, texts))  # type: ignore[arg-type]


def _check_types(column: str, values: Sequence[Any], allowed: frozenset[type]) -> None:
    if not allowed.issuperset(map(type, values)):
        raise _impossible(column, (value for value in values if type(value) not in allowed))
