"""What the two kinds of consumer groups share: their arguments, acknowledgement, and how they end."""

from __future__ import annotations

import logging
import math
import socket
from collections import deque
from collections.abc import Iterable
from weakref import WeakSet

import redis

from hsm_shipper.contract.acl_commands import GROUP_COMMANDS
from hsm_tools.event import StreamEvent
from hsm_tools.reader.batches import EventReading
from hsm_tools.reader.outages import one_try_failed, passes, refusal
from hsm_tools.reader.reader import Reader
from hsm_tools.reader.starts import StartArgument
from hsm_tools.reader.steps import Steps

logger = logging.getLogger("hsm_tools.consumer")


class ConsumerGroupBase:
    """Base of `ConsumerGroup` and `AsyncConsumerGroup`; see the former."""

    def __init__(
        self,
        reader: Reader,
        name: str,
        consumer: str | None,
        from_beginning: bool,
        start: StartArgument,
        reclaim_after_s: float,
        batch_size: int,
    ) -> None:
        self.name = _checked("name", name)
        self.consumer = _checked("consumer", socket.gethostname() if consumer is None else consumer)
        if not 0 < reclaim_after_s < math.inf:
            raise ValueError(f"reclaim_after_s: {reclaim_after_s!r} is no positive number of seconds")
        if batch_size < 1:
            raise ValueError(f"batch_size: {batch_size!r} is less than 1")
        self._reader = reader
        self._source = reader.group_source(self.name, self.consumer, from_beginning, start, reclaim_after_s, batch_size)
        self._readings: WeakSet[EventReading] = WeakSet()
        self._left: deque[StreamEvent] = deque()  # given to us, and not handed out yet

    @property
    def reclaimed(self) -> int:
        """How many entries were given to this consumer because nobody had acknowledged them in time."""
        return self._source.reclaimed

    def _follow(self, block_ms: int) -> EventReading:
        reading = self._reader.follow_group(self._source, block_ms)
        self._readings.add(reading)
        return reading

    def _ack(self, events: Iterable[StreamEvent]) -> Steps[None]:
        self._source.add_acks((event.stream.encode(), event.id.encode()) for event in events)
        try:
            yield from self._source.send_acks()
        except redis.RedisError as error:
            if not passes(error):
                raise refusal(error, self._reader.prefix, self._reader.address, GROUP_COMMANDS) from error

    def _deliveries(self, event: StreamEvent) -> Steps[int]:
        try:
            return (yield from self._source.deliveries(event.stream.encode(), event.id.encode()))
        except redis.RedisError as error:
            raise one_try_failed(error, self._reader.prefix, self._reader.address, GROUP_COMMANDS) from error

    def _finish(self) -> Steps[None]:
        """One more try to acknowledge what could not be yet."""
        try:
            yield from self._source.send_acks()
        except redis.RedisError as error:
            logger.warning(
                "%d acknowledgements to group %s could not be sent (%s): these events are given again",
                self._source.unsent_acks, self.name, error,
            )  # fmt: skip


def _checked(what: str, name: object) -> str:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"{what}: {name!r} is no name: use printable characters")
    return name
