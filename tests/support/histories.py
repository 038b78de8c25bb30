"""Events of a stream: those of ours, of earlier shippers and of nobody, and any order of them."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from tests.support.core import digest, earlier_event, line

Page = list[tuple[bytes, bytes | None]]


def page(*events: dict[str, Any] | bytes | None) -> Page:
    """Entries `1-0`, `2-0`, … of these events."""
    return [
        (b"%d-0" % number, msgspec.json.encode(event) if isinstance(event, dict) else event)
        for number, event in enumerate(events, 1)
    ]


def ours(rec: int = 1, status: str = "WAITING", kind: str = "NEW", since: int = 1000, **more: Any) -> dict[str, Any]:
    """An event of ours, of an action first seen at 1000."""
    cookie = more.pop("number", 0x6B020000 + rec)
    times = {"timestamp": since, "first_seen": 1000, "status_since": since, "cookie": f"{cookie:#x}", "host": "mds1"}
    return earlier_event(line(rec, status, cookie=cookie), kind) | times | more


def end(rec: int = 1, **more: Any) -> dict[str, Any]:
    """A PURGED of ours."""
    said = ours(rec, kind="PURGED") | {"status": "PURGED", "last_status": "SUCCEED", "hash": "ab" * 16} | more
    return {key: value for key, value in said.items() if key != "raw"}


def events() -> st.SearchStrategy[Any]:
    """Events of ours, of earlier shippers and of nobody, in few places."""
    recs, cookies = st.integers(1, 2), st.integers(7, 9)
    statuses = st.sampled_from(["WAITING", "STARTED", "SUCCEED"])
    kinds = st.sampled_from(["NEW", "UPDATE"])
    lines = st.builds(line, recs, statuses, cookie=cookies)
    hashed = st.builds(lambda event: event | {"raw": None, "hash": "cd" * 16}, st.builds(ours, recs, statuses))
    states = st.builds(ours, recs, statuses, kinds, st.integers(1000, 1003), number=cookies, refresh=st.booleans())
    ends = st.builds(end, recs, number=cookies)
    old_ends = st.builds(
        lambda one, hashed: earlier_event(one, "PURGED") | {"raw": None, "hash": digest(hashed).hex()}, lines, lines
    )
    by_key = st.builds(lambda rec: {"event_type": "PURGED", "action_key": f"0x200000401:{rec:#x}:0x0:ARCHIVE"}, recs)
    return st.one_of(
        states, states, hashed, ends, ends, st.builds(earlier_event, lines), old_ends, by_key, st.just(b"{}")
    )
