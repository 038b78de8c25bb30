"""Where a reading starts in each stream: now, at the beginning, after an id, or at a saved position."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from hsm_shipper.contract.redis_keys import is_mdt_name, mdt_of
from hsm_tools.reader.positions import BEGINNING, Position, StreamInfo, id_parts

StartArgument: TypeAlias = Mapping[str, str] | str | None
# By stream and entry: how many entries had been added to the stream up to this one.
EntryNumbers: TypeAlias = Mapping[tuple[bytes, bytes], int]

_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_ID_PART_MAX = 2**64 - 1


class Start:
    """Made by `start_of`. `saved` are the streams that a saved position names, with their ids."""

    def __init__(
        self,
        *,
        at_end: bool = False,
        after: bytes = BEGINNING,
        saved: Mapping[bytes, bytes] | None = None,
        numbers: EntryNumbers | None = None,
    ) -> None:
        self.at_end = at_end
        self.saved = saved
        self._numbers = numbers or {}
        self._after = after

    @property
    def saved_keys(self) -> frozenset[bytes]:
        """The streams that a saved position names."""
        return frozenset(self.saved or ())

    def group_id(self, key: bytes) -> bytes:
        """The id after which a consumer group of a stream begins."""
        if self.saved is not None:
            return self.saved.get(key, BEGINNING)
        return b"$" if self.at_end else self._after

    def position(self, key: bytes, info: StreamInfo) -> Position:
        """Where to begin in a stream that is there when the reading starts."""
        if self.saved is not None:
            return self.saved_position(key)
        if self.at_end or id_parts(self._after) >= id_parts(info.last_id):
            return Position.at_end(info)
        if self._after == BEGINNING:
            return Position.at_beginning(info)
        position = Position(self._after, None)
        position.overtaken(info)  # what was removed before we came is none of our business
        return position

    def saved_position(self, key: bytes) -> Position:
        """Where a saved position stands in a stream; one that it does not name was born since."""
        entry_id = (self.saved or {}).get(key, BEGINNING)
        if entry_id == BEGINNING:
            return Position.before_birth()
        return Position(entry_id, self._numbers.get((key, entry_id)))


def start_of(prefix: str, from_beginning: bool, start: StartArgument, numbers: EntryNumbers | None = None) -> Start:
    """What the arguments of `events` mean; `ValueError` for ids, streams and combinations that cannot be used.

    `numbers` are those of the entries where an earlier reading of the same reader got to: if it is continued, what
    was removed in between can be counted.
    """
    if start is None:
        return Start(at_end=not from_beginning)
    if from_beginning:
        raise ValueError("from_beginning and start contradict each other: give one of them")
    if isinstance(start, str):
        return Start(after=_checked_id(start))
    if not isinstance(start, Mapping):
        raise ValueError(f"start: {start!r} is neither an id nor a mapping of streams to ids")
    saved = {_checked_key(prefix, key): _checked_id(entry_id) for key, entry_id in start.items()}
    return Start(saved=saved, numbers=numbers)


def _checked_id(entry_id: object) -> bytes:
    if not isinstance(entry_id, str) or not _ID.fullmatch(entry_id):
        raise ValueError(f"start: {entry_id!r} is no entry id: write '<milliseconds>-<sequence>'")
    parts = id_parts(entry_id.encode())
    if max(parts) > _ID_PART_MAX:
        raise ValueError(f"start: {entry_id!r} is no entry id: its parts have at most 64 bits")
    return b"%d-%d" % parts


def _checked_key(prefix: str, key: object) -> bytes:
    if not isinstance(key, str) or not key.startswith(f"{prefix}:") or not is_mdt_name(mdt_of(prefix, key)):
        raise ValueError(f"start: {key!r} is no stream of this reader: they are named '{prefix}:<MDT>'")
    return key.encode()
