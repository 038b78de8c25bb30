"""Events that say everything, as all of ours do: decoded straight into what a fold needs of them, and nothing else.

Decoding is most of what the fold of a long stream costs. What says less than these (an earlier shipper's events above
all) goes the long way, by `event.decode`, which refuses wrong types in any field; what else an event says is not looked
at here: who uses these sees to it that it is UTF-8.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from hsm_shipper.contract.event import SECONDS, LlogIndex
from hsm_shipper.errors import MalformedEvent

NOT_WHOLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MalformedEvent)
"""What decoding and checking raise for an entry that has to go the long way."""

_Word = Annotated[str, msgspec.Meta(min_length=1)]
_Seconds = Annotated[int, SECONDS]


class WholeState(msgspec.Struct, gc=False):
    """A NEW or UPDATE."""

    cat_idx: LlogIndex
    rec_idx: LlogIndex
    fid: _Word
    action: _Word
    status: _Word
    cookie: _Word
    first_seen: _Seconds
    status_since: _Seconds
    timestamp: _Seconds
    refresh: bool = False
    hash: str | None = None  # for its user to check: a pattern here costs as much as all the rest


class WholeEnd(msgspec.Struct, gc=False):
    """A PURGED."""

    cat_idx: LlogIndex
    rec_idx: LlogIndex
    cookie: _Word
    action: _Word
    last_status: _Word
    hash: str | None = None
