"""What a stream says, by the rules of the contract and nothing of the product: slow, strict, and for our own entries.

It knows the entries that our shipper writes and those of earlier ones, as `docs/consumers.md` and README tell them. A
mistake in the product's fold is not in this one as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import md5
from typing import Any

Place = tuple[int, int]

_INDEX = re.compile(r"idx=(\d+)/(\d+)\]")
_COOKIE = re.compile(r" compound/cookie=\S+/(\S+) ")


@dataclass(frozen=True)
class Live:
    """A live action as its newest entry tells it."""

    fid: str
    action: str
    status: str
    cookie: str | None
    digest: str | None
    """MD5 of the line, hex."""
    entry: int
    # Where entries of earlier shippers do not tell them, they follow from what was trimmed away meanwhile.
    first_seen: int | None = field(default=None, compare=False)
    status_since: int | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """What earlier shippers name it by."""
        return f"{self.fid}:{self.action}"


def event_of(fields: list[bytes]) -> dict[str, Any] | None:
    """The object in an entry, not to be changed; None for one that is no event."""
    return _event(tuple(fields))


@lru_cache(4096)
def _event(fields: tuple[bytes, ...]) -> dict[str, Any] | None:
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    try:
        event = json.loads(pairs[b"data"])
    except (KeyError, ValueError):
        return None
    if not isinstance(event, dict) or event.get("event_type") not in ("NEW", "UPDATE", "PURGED"):
        return None
    of_line = _INDEX.search(event.get("raw") or "")
    if of_line and _place(event) != (int(of_line[1]), int(of_line[2])):
        return None
    named = event.get("action_key") if event["event_type"] == "PURGED" else _place(event) and event.get("fid")
    return event if named else None


def identity(event: dict[str, Any]) -> tuple[Place | None, str | None, str | None, str | None]:
    """What an event speaks of: place, cookie, FID, action."""
    return _place(event), _cookie(event), event.get("fid"), event.get("action")


def digest(event: dict[str, Any]) -> str | None:
    """MD5 of the line that an event tells of, hex."""
    if event.get("hash") is not None:
        return str(event["hash"])
    return None if event.get("raw") is None else md5(event["raw"].encode(), usedforsecurity=False).hexdigest()


class ReferenceFold:
    """The live actions of a stream, and the places that it mentions."""

    def __init__(self) -> None:
        self.live: dict[Place, Live] = {}
        self.mentioned: set[Place] = set()

    def add(self, entry: int, event: dict[str, Any]) -> None:
        """Fold in the next event."""
        place = _place(event)
        if place is None:
            self.live = {where: live for where, live in self.live.items() if live.key != event["action_key"]}
            return
        self.mentioned.add(place)
        if event["event_type"] != "PURGED":
            self.live[place] = _live(entry, event)
        elif place in self.live and is_of(event, self.live[place]):
            del self.live[place]


def is_of(event: dict[str, Any], live: Live) -> bool:
    """Whether a PURGED event speaks of a live action."""
    if _cookie(event) is not None and live.cookie is not None:
        return _cookie(event) == live.cookie
    if digest(event) is not None and live.digest is not None:
        return digest(event) == live.digest
    return bool(event.get("fid") == live.fid and event.get("action") == live.action)


def _live(entry: int, event: dict[str, Any]) -> Live:
    times = event.get("first_seen"), event.get("status_since")
    fid, action = str(event["fid"]), str(event["action"])
    return Live(fid, action, event["status"], _cookie(event), digest(event), entry, *times)


def _place(event: dict[str, Any]) -> Place | None:
    if event.get("cat_idx") is not None and event.get("rec_idx") is not None:
        return event["cat_idx"], event["rec_idx"]
    found = _INDEX.search(event.get("raw") or "")
    return (int(found[1]), int(found[2])) if found else None


def _cookie(event: dict[str, Any]) -> str | None:
    if event.get("cookie") is not None:
        return str(event["cookie"])
    found = _COOKIE.search(event.get("raw") or "")
    return found[1] if found else None
