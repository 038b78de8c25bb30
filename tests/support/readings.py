"""What the tests of the reader and of the tail share: writing entries, and taking events with a deadline."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from hsm_tools.consumer import StreamEvent, StreamReader
from tests.support.waiting import DEADLINE_S, eventually

MDT0 = "hsm:actions:elm-MDT0000"
MDT1 = "hsm:actions:elm-MDT0001"
DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def event_data(n: int = 0, **changes: Any) -> dict[str, Any]:
    """The object of a NEW event; `n` makes it distinguishable."""
    fid = f"0x200000401:{n:#x}:0x0"
    data = {"event_type": "NEW", "mdt": "elm-MDT0000", "cat_idx": 1, "rec_idx": n, "fid": fid, "action": "ARCHIVE"}
    data |= {"status": "WAITING", "timestamp": 1759401125, "action_key": f"{fid}:ARCHIVE", "cookie": hex(n)}
    return data | changes


def add(client: redis.Redis, stream: str, numbers: Iterator[int] | range | list[int], ids: str = "*") -> list[str]:
    """Append an entry for each of `numbers` in one round trip; `ids` may be a format with `{}` for the number."""
    pipe = client.pipeline(transaction=False)
    for n in numbers:
        pipe.xadd(stream, {"data": json.dumps(event_data(n))}, id=ids.format(n))
    return [entry_id.decode() for entry_id in pipe.execute()]


def reads(client: redis.Redis) -> int:
    """How many XREADs the server has answered, by anyone."""
    return int(client.info("commandstats").get("cmdstat_xread", {"calls": 0})["calls"])


def looks(client: redis.Redis) -> int:
    """How many times the server was asked for the state of a stream, by anyone."""
    stats = client.info("commandstats")
    return sum(stat["calls"] for name, stat in stats.items() if name.startswith("cmdstat_xinfo"))


def take(events: Iterator[StreamEvent | None], count: int, timeout_s: float = DEADLINE_S) -> list[StreamEvent]:
    """The next `count` events of a reading with `block_ms` > 0, whatever Nones come between."""
    taken: list[StreamEvent] = []
    deadline_s = time.monotonic() + timeout_s
    while len(taken) < count:
        event = next(events)
        if event is not None:
            taken.append(event)
        assert time.monotonic() < deadline_s, f"only {len(taken)} of {count} events within {timeout_s:g} s"
    return taken


def history(events: Iterator[StreamEvent | None]) -> list[StreamEvent]:
    """What comes before the first None."""
    taken: list[StreamEvent] = []
    for event in events:
        if event is None:
            return taken
        taken.append(event)
    raise AssertionError("the reading ended")


def idle_until(
    events: Iterator[StreamEvent | None], check: Callable[[], object], timeout_s: float = DEADLINE_S
) -> None:
    """Let an idle reader go on until something is true; nothing may come meanwhile."""

    def go_on() -> object:
        event = next(events)
        assert event is None, f"unexpected: {event}"
        return check()

    eventually(go_on, timeout_s, interval_s=0)


def stay_idle(client: redis.Redis, events: Iterator[StreamEvent | None]) -> None:
    """Let an idle reader go on until it has looked at its streams twice; nothing may come meanwhile."""
    enough = looks(client) + 2
    idle_until(events, lambda: looks(client) >= enough)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the reader has logged so far, but for debugging."""
    return [r.getMessage() for r in caplog.records if r.name == "hsm_tools.consumer" and r.levelno >= logging.INFO]


def numbers(events: list[StreamEvent]) -> list[int]:
    """The numbers that `event_data` put into the events."""
    return [event.data["rec_idx"] for event in events]


def resumed(reader: StreamReader, position: Any) -> list[StreamEvent]:
    """What follows a position that went through a file, up to the first pause."""
    return history(reader.events(start=json.loads(json.dumps(position)), block_ms=1))
