"""A shipper as earlier ones of this family are described: a JSON cache of hashes, at least once, orphans purged by key.

It knows nothing of who else writes to its streams. Its polls are told the lines; its entries are those of
`tests.support.core.earlier_event`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import md5
from pathlib import Path
from typing import Any

import redis

from hsm_shipper.contract.stream_ids import pack_id
from tests.support.core import earlier_event
from tests.support.truth import entries_of

_PURGED = "PURGED"


class EarlierShipper:
    """The one on a server: for one MDT, with its cache in `cache`."""

    def __init__(self, client: redis.Redis, key: str, cache: Path) -> None:
        self._client = client
        self._key = key
        self._cache = cache

    def poll(self, *lines: bytes) -> None:
        """Send what differs from the cache, by place and MD5, then keep the lines."""
        known: dict[str, dict[str, Any]] = json.loads(self._cache.read_text()) if self._cache.exists() else {}
        now = {}
        for line in (line.rstrip(b"\n") for line in lines):
            event = earlier_event(line)
            place = f"{event['cat_idx']}/{event['rec_idx']}"
            now[place] = event | {"hash": md5(line, usedforsecurity=False).hexdigest()}
            if place not in known or known[place]["hash"] != now[place]["hash"]:
                self._add(event | {"event_type": "UPDATE" if place in known else "NEW"})
        for gone in known.keys() - now.keys():
            parts = ("mdt", "cat_idx", "rec_idx", "fid", "action", "action_key", "hash")
            kept = {part: known[gone][part] for part in parts}
            self._add(kept | {"event_type": _PURGED, "status": _PURGED, "timestamp": 1_759_401_200})
        self._cache.write_text(json.dumps(now))

    def maintain(self, *lines: bytes) -> None:
        """Purge by their keys what only the stream has, and trim to the oldest entry of what is live."""
        listed = {earlier_event(line.rstrip(b"\n"))["action_key"] for line in lines}
        live = self._live()
        for action_key in live.keys() - listed:
            orphan = {"event_type": _PURGED, "status": _PURGED, "action_key": action_key, "timestamp": 1_759_401_300}
            self._add(orphan)
        oldest = min((live[each] for each in listed), key=pack_id)  # as text 1-10 comes before 1-2
        self._client.xtrim(self._key, minid=oldest, approximate=False)

    def _live(self) -> dict[str, str]:
        """The newest entry of each action that the stream calls live, by key: a file's one action of a kind."""
        live: dict[str, str] = {}
        for entry_id, data in entries_of(self._client, self._key):
            event = json.loads(data or b"{}")
            if event["event_type"] == _PURGED:
                live.pop(event["action_key"], None)
            else:
                live[event["action_key"]] = entry_id
        return live

    def live_keys(self) -> Iterable[str]:
        """What a consumer of its time calls live."""
        return self._live().keys()

    def _add(self, event: dict[str, Any]) -> None:
        self._client.xadd(self._key, {"data": json.dumps({**event, "mdt": self._key.rpartition(":")[2]})})
