"""Taking and acknowledging the events of a consumer group."""

from __future__ import annotations

from typing import Any

import redis

from hsm_tools.consumer import ConsumerGroup, StreamEvent
from tests.support.readings import MDT0


def pending(client: redis.Redis, stream: str = MDT0, group: str = "g") -> int:
    summary: Any = client.xpending(stream, group)
    return int(summary["pending"])


def handled(group: ConsumerGroup, count: int, events: Any = None) -> list[StreamEvent]:
    """Take `count` events and acknowledge each."""
    taken = []
    for event in events or group.events(block_ms=50):
        if event is not None:
            group.ack(event)
            taken.append(event)
        if len(taken) == count:
            break
    return taken


def nothing_comes(group: ConsumerGroup) -> bool:
    return next(group.events(block_ms=100)) is None
