"""The events on the wire: the JSON object in the field `data` of every stream entry.

| key                           | NEW, UPDATE | PURGED   | what                                               |
|-------------------------------|-------------|----------|----------------------------------------------------|
| `event_type`                  | yes         | yes      | `NEW`, `UPDATE` or `PURGED`                        |
| `mdt`                         | yes         | yes      | MDT name                                           |
| `cat_idx`, `rec_idx`          | yes         | yes      | place of the record in the llog catalogue          |
| `fid`, `action`, `action_key` | yes         | yes      | FID without brackets, action, `fid:ACTION`         |
| `status`                      | kernel's    | `PURGED` |                                                    |
| `timestamp`                   | yes         | yes      | when the shipper saw it, whole seconds             |
| `raw`                         | by option   | no       | the kernel's line; left out by `include_raw: false`|
| `hash`                        | at need     | yes      | MD5 of the line, hex: where `raw` is not it exactly|
| `cookie`                      | yes         | yes      | the kernel's cookie, hex text                      |
| `first_seen`, `status_since`  | yes         | yes      | whole seconds: of the action, of its status        |
| `host`                        | yes         | yes      | the metadata server that wrote the entry           |
| `last_status`                 | no          | yes      | the last status seen: the action's outcome         |
| `refresh`                     | on refresh  | no       | `true`: nothing changed, an old state is repeated  |

Earlier shippers of this family wrote entries without the last five rows, and PURGED with little but an `action_key`.
`decode` reads those too. Whatever else an entry says is passed over, but all of it must be UTF-8, as JSON is.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import msgspec

from hsm_shipper.contract.kernel_line import INDEX_MAX, INDEX_MIN, pack_place, parse_line, unpack_place, unsigned
from hsm_shipper.errors import MalformedEvent

NEW: Final = "NEW"
UPDATE: Final = "UPDATE"
PURGED: Final = "PURGED"


DATA_MAX_BYTES = 1024 * 1024
"""An entry with more in its field `data` is malformed to all, whatever it says, for live actions are kept in memory.
Ours have some 600 bytes, and three quarters of that with the longest line that is understood."""

# Beyond 2^53 a number is no time, and neither doubles nor SQLite's integers hold it.
SECONDS_MAX = 2**53
_SECONDS = msgspec.Meta(ge=-SECONDS_MAX, le=SECONDS_MAX)
Seconds = Annotated[int, _SECONDS] | Annotated[float, _SECONDS]
# Both halves of idx are __u32 in struct llog_cookie; who has read them as they were printed may write a negative one.
_PrintedIndex = Annotated[int, msgspec.Meta(ge=INDEX_MIN, le=INDEX_MAX)]


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """One event; what an entry does not say is None. Times are seconds since the epoch."""

    event_type: Literal["NEW", "UPDATE", "PURGED"]
    action_key: str | None = None
    mdt: str | None = None
    cat_idx: _PrintedIndex | None = None
    rec_idx: _PrintedIndex | None = None
    fid: str | None = None
    action: str | None = None
    status: str | None = None
    timestamp: Seconds | None = None
    raw: str | None = None
    hash: str | None = None
    cookie: str | None = None
    first_seen: Seconds | None = None
    status_since: Seconds | None = None
    host: str | None = None
    last_status: str | None = None
    refresh: bool = False

    @property
    def place(self) -> int | None:
        """The packed place, or None if the entry names none."""
        if self.cat_idx is None or self.rec_idx is None:
            return None
        return pack_place(self.cat_idx, self.rec_idx)

    @property
    def line_digest(self) -> bytes | None:
        """MD5 of the kernel's line, 16 bytes; None where the entry does not tell."""
        if self.hash is not None:
            return digest_from_hex(self.hash)
        return None if self.raw is None else line_digest(self.raw.encode())


def line_digest(line: bytes) -> bytes:
    """MD5 of a line without its newline, 16 bytes: decides whether a line changed; protects against nothing."""
    return hashlib.md5(line, usedforsecurity=False).digest()


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


def decode(data: bytes | None) -> Event:
    """Decode the field `data` of an entry; `MalformedEvent` says why it is of no use.

    What the entry leaves out and its `raw` line tells (place, FID, action, cookie) is filled in.
    """
    if data is None:
        raise MalformedEvent("the entry has no field 'data'")
    if len(data) > DATA_MAX_BYTES:
        raise MalformedEvent(too_large(data))
    try:
        event = _decode(data)
        if not data.isascii():
            data.decode()  # also what nobody asks for must be text
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # nested a thousandfold
        raise MalformedEvent(f"the entry's 'data' is no event: {error}") from None
    # Every event of a long stream passes here, and ours say everything.
    cat_idx, rec_idx = event.cat_idx, event.rec_idx
    if cat_idx is None or rec_idx is None:
        _complete(event)
    else:
        if cat_idx | rec_idx < 0:
            event.cat_idx, event.rec_idx = unsigned(cat_idx), unsigned(rec_idx)
        if not (event.cookie and event.fid and event.action and event.status and event.action_key):
            _complete(event)
    if event.hash is not None:
        digest_from_hex(event.hash)
    return event


def too_large(data: bytes) -> str:
    """What is wrong with the field `data` of an entry that has more than `DATA_MAX_BYTES`."""
    return f"the entry's 'data' has {len(data):,} bytes, more than any event ({DATA_MAX_BYTES:,})"


def _complete(event: Event) -> None:
    """Fill what only `raw` or `action_key` tells, and refuse what cannot be placed."""
    if event.raw is not None:
        _fill_from_raw(event, event.raw)
    if event.cat_idx is None or event.rec_idx is None:
        event.cat_idx = event.rec_idx = None
    if event.action_key and not (event.fid and event.action):
        fid, _, action = event.action_key.rpartition(":")
        event.fid, event.action = event.fid or fid, event.action or action
    if event.event_type == PURGED:
        _check_purged(event)
    elif event.cat_idx is None or not event.fid or not event.action or not event.status:
        raise MalformedEvent(f"{event.event_type} without a place, FID, action or status")


def _check_purged(event: Event) -> None:
    if event.fid and event.action:
        event.action_key = event.action_key or f"{event.fid}:{event.action}"
    elif event.cat_idx is None or not (event.cookie or event.hash):
        raise MalformedEvent("PURGED that names no action")


def _fill_from_raw(event: Event, raw: str) -> None:
    record = parse_line(raw.encode())
    if record is None:
        return
    if event.cat_idx is None or event.rec_idx is None:
        event.cat_idx, event.rec_idx = unpack_place(record.place)
    elif event.place != record.place:
        # Believed, that line would count as one of this place, and never be shipped for its own.
        raise MalformedEvent(f"the place {event.cat_idx}/{event.rec_idx} is not the one of its line")
    event.cookie = event.cookie or record.cookie
    event.fid = event.fid or record.fid
    event.action = event.action or record.action
    event.status = event.status or record.status


def digest_from_hex(text: str) -> bytes:
    """16 bytes; `MalformedEvent` if it is no MD5."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 16:
        raise MalformedEvent(f"hash {text[:40]!r} is no MD5")
    return digest
