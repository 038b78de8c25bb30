"""One event of a stream, as consumers get it: the entry as it is, and typed access to what it says."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from hsm_shipper.contract.event import DATA_MAX_BYTES, PURGED, UPDATE, Event, decode, encode, too_large
from hsm_shipper.contract.redis_keys import DATA_FIELD, data_of
from hsm_shipper.errors import MalformedEvent
from hsm_tools.command.kernel_words import FINAL_STATUSES
from hsm_tools.record import HsmRecord, parse_record

_MALFORMED_REPORT_INTERVAL_S = 60.0
_DIGITS_MAX = 20  # Python makes no int of some thousand
_TIME_MAX_S = 253_402_300_800  # the year 10000

logger = logging.getLogger("hsm_tools.consumer")
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class StreamEvent(NamedTuple):
    """One event: the key of its stream, the id of its entry, and its JSON object (see `hsm_shipper.contract.event`).

    `data` may be anything that JSON can say; the properties below never trip over it, but for `event`, which says so.
    """

    stream: str
    id: str
    data: dict[str, Any]

    @property
    def event(self) -> Event:
        """The event of the contract, checked and completed from its raw line; `MalformedEvent` if it is none."""
        try:
            return decode(encode(self.data))
        except (OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise MalformedEvent(f"the entry's 'data' is no event: {error}") from None

    @property
    def record(self) -> HsmRecord | None:
        """All fields of the kernel's line; None if the event has none (PURGED has none), or it is not understood."""
        raw = self.data.get("raw")
        return parse_record(raw) if isinstance(raw, str) else None

    @property
    def mdt(self) -> str:
        """Name of the MDT."""
        mdt = self.data.get("mdt")
        return mdt if isinstance(mdt, str) and mdt else self.stream.rpartition(":")[2]

    @property
    def time(self) -> datetime:
        """When the shipper saw it (UTC); an event that does not say has the time of its entry."""
        seconds = _seconds(self.data, "timestamp")
        if seconds is None or not 0 <= seconds < _TIME_MAX_S:
            seconds = min(int(self.id.partition("-")[0]) / 1000, _TIME_MAX_S - 1)
        return datetime.fromtimestamp(seconds, UTC)

    @property
    def is_refresh(self) -> bool:
        """Whether it repeats an old state, so that what lies behind it can be trimmed: nothing has changed."""
        return self.data.get("refresh") is True and self.data.get("event_type") == UPDATE

    @property
    def outcome(self) -> str | None:
        """How the action of a PURGED ended: its last status. None for other events, and where it is not known.

        Besides SUCCEED, FAILED and CANCELED it may be a status in which the action was seen last, before it vanished.
        """
        status = self.data.get("last_status") if self.data.get("event_type") == PURGED else None
        return status if isinstance(status, str) else None

    @property
    def duration_s(self) -> float | None:
        """How long the action of a PURGED took: from when it was first seen until its final status was.

        Until the action had left the list, for one whose end was not seen. None for other events, and where the times
        are not known. As exact as the shipper's polls are frequent.
        """
        if self.outcome is None:
            return None
        begun_s = _seconds(self.data, "first_seen")
        ended_s = _seconds(self.data, "status_since" if self.outcome in FINAL_STATUSES else "timestamp")
        return None if begun_s is None or ended_s is None else max(0.0, ended_s - begun_s)


def _seconds(data: dict[str, Any], key: str) -> float | None:
    value = data.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


class EntryDecoder:
    """Makes events of entries; counts in `malformed` those that hold no JSON object, and says so at a low rate.

    Refreshes are passed over unless `refreshes`: whoever takes an UPDATE for news would do old work again.
    """

    def __init__(self, *, refreshes: bool) -> None:
        self.malformed = 0
        self._refreshes = refreshes
        self._report_due_s = -math.inf

    def events(self, key: bytes, entries: list[Any], passed_over: Callable[[bytes, bytes], None]) -> list[StreamEvent]:
        """The events of entries of one stream; `passed_over` is told the key and id of each that is none for us."""
        stream, events = key.decode(), []
        for entry_id, fields in entries:
            try:
                data = _object(fields[1] if fields[0] == DATA_FIELD else _named_data(fields))
            except (ValueError, RecursionError) as error:  # msgspec's errors and bad UTF-8 are ValueErrors
                self._count(stream, entry_id, error)
                passed_over(key, entry_id)
                continue
            event = StreamEvent(stream, entry_id.decode(), data)
            if event.is_refresh and not self._refreshes:
                passed_over(key, entry_id)
            else:
                events.append(event)
        return events

    def _count(self, stream: str, entry_id: bytes, error: Exception) -> None:
        self.malformed += 1
        now_s = time.monotonic()
        if now_s >= self._report_due_s:
            self._report_due_s = now_s + _MALFORMED_REPORT_INTERVAL_S
            entry = f"{stream} {entry_id.decode()}"
            logger.warning("%s is malformed and passed over (%s); %d so far", entry, error, self.malformed)


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > DATA_MAX_BYTES:
        raise ValueError(too_large(data))
    try:
        return _decode_object(data)
    except msgspec.DecodeError as error:
        # A number beyond all floats where no fold looks: it is an event to them, and so to everybody.
        try:
            decode(data)
        except MalformedEvent:
            raise error from None
        found: dict[str, Any] = json.loads(data, parse_int=_number)
        return found


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < _DIGITS_MAX else float(digits)


def _named_data(fields: list[bytes]) -> bytes:
    data = data_of(fields)
    if data is None:
        raise ValueError("it has no field 'data'")
    return data
