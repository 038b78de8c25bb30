"""The consumer API for asyncio: `StreamReader` and `ConsumerGroup` with `async` in front of what waits.

    from lustre_hsm_action_stream.aio import AsyncStreamReader

    async with AsyncStreamReader(host="redis") as reader:
        async for event in reader.events():
            print(event.mdt, event.data.get("fid"), event.data.get("status"))

Only what waits is written here; all else is the blocking reader's own logic, and is said there. A task may be cancelled
anywhere: nothing is lost by it, and a reading whose `__anext__` was cancelled (by `asyncio.timeout`, say) goes on at
the next one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Literal, Self, TypeVar, overload

from hsm_tools.event import StreamEvent
from hsm_tools.reader.batches import EventReading, Where
from hsm_tools.reader.consumer_group_base import ConsumerGroupBase
from hsm_tools.reader.reader import Reader
from hsm_tools.reader.server import Server
from hsm_tools.reader.starts import StartArgument
from hsm_tools.reader.step_runner_aio import AsyncStepRunner

__all__ = ["AsyncBatches", "AsyncConsumerGroup", "AsyncEvents", "AsyncStreamReader"]

T = TypeVar("T")
E = TypeVar("E", bound=StreamEvent | None)
_PAUSE_STEP_S = 0.5


class AsyncBatches(AsyncIterator[list[StreamEvent]]):
    """A reading, batch by batch; for one task at a time."""

    def __init__(
        self, reader: AsyncStreamReader, reading: EventReading, left: deque[StreamEvent] | None = None
    ) -> None:
        self.reading = reading
        """What it reads by."""
        self._left = deque[StreamEvent]() if left is None else left
        self._runner = reader._runner(reading)
        self._siblings = reader.readings
        self._siblings.add(self)
        self._in_use = False

    async def __anext__(self) -> list[StreamEvent]:
        if self._left and not self.ended:
            batch = [*self._left]
            self._left.clear()
            return batch
        batch = await self.next_batch()
        self.reading.all_handed_out()
        return batch

    @property
    def ended(self) -> bool:
        """Whether the reading is over."""
        return self.reading.ending.is_set()

    async def next_batch(self) -> list[StreamEvent]:
        """The next batch, of which nothing counts as handed out yet."""
        self._in_use = True
        try:
            batch = await self._runner.run(self.reading.next_batch())
        finally:
            self._in_use = False
        if batch is None:
            await self.aclose()
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """End the reading and close its connection; one that another task waits in ends within a second or so."""
        self.reading.ending.set()
        if not self._in_use:
            self._siblings.discard(self)
            await self._runner.close()


class AsyncEvents(AsyncIterator[E]):
    """A reading, event by event; for one task at a time."""

    def __init__(
        self, reader: AsyncStreamReader, reading: EventReading, left: deque[StreamEvent] | None = None
    ) -> None:
        self._reading = reading
        self._left: deque[Any] = deque() if left is None else left
        self._batches = AsyncBatches(reader, reading)

    async def __anext__(self) -> E:
        if self._batches.ended:
            raise StopAsyncIteration
        if not self._left:
            batch = await self._batches.next_batch()
            self._left.extend(batch or (None,))
        event: E = self._left.popleft()
        if event is not None:
            self._reading.current = event
        return event

    async def aclose(self) -> None:
        """End the reading and close its connection; one that another task waits in ends within a second or so."""
        await self._batches.aclose()


class AsyncStreamReader(Reader):
    """`StreamReader` for asyncio: the same arguments, readings and guarantees.

    Its readings are async iterators with an `aclose` method; they end with the reader.
    """

    def _set_up(self, server: Server, prefix: str, discovery_interval_s: float, *, refreshes: bool) -> None:
        super()._set_up(server, prefix, discovery_interval_s, refreshes=refreshes)
        self.readings: set[AsyncBatches] = set()
        """Those that have not ended, and groups that are not closed."""
        self.groups: set[AsyncConsumerGroup] = set()

    @overload
    def events(
        self, from_beginning: bool = ..., block_ms: Literal[0] = ..., start: StartArgument = ...
    ) -> AsyncEvents[StreamEvent]: ...

    @overload
    def events(
        self, from_beginning: bool = ..., block_ms: int = ..., start: StartArgument = ...
    ) -> AsyncEvents[StreamEvent | None]: ...

    def events(self, from_beginning: bool = False, block_ms: int = 0, start: StartArgument = None) -> AsyncEvents[Any]:
        """As `StreamReader.events`."""
        return AsyncEvents(self, self._follow(from_beginning, block_ms, start))

    def batches(self, from_beginning: bool = False, block_ms: int = 0, start: StartArgument = None) -> AsyncBatches:
        """As `StreamReader.batches`."""
        return AsyncBatches(self, self._follow(from_beginning, block_ms, start))

    def history(
        self, start: StartArgument = None, last: int | None = None, where: Where | None = None
    ) -> AsyncEvents[StreamEvent]:
        """As `StreamReader.history`."""
        return AsyncEvents(self, self._look_back(start, last, where))

    async def streams(self) -> list[str]:
        """As `StreamReader.streams`."""
        runner = self._runner()
        try:
            return await runner.run(self._list())
        finally:
            await runner.close()

    async def discover_streams(self) -> list[str]:
        """As `StreamReader.discover_streams`."""
        return await self.streams()

    def group(
        self,
        name: str,
        consumer: str | None = None,
        *,
        from_beginning: bool = False,
        start: StartArgument = None,
        reclaim_after_s: float = 60.0,
        batch_size: int = 100,
    ) -> AsyncConsumerGroup:
        """As `StreamReader.group`."""
        return AsyncConsumerGroup(self, name, consumer, from_beginning, start, reclaim_after_s, batch_size)

    async def aclose(self) -> None:
        """End all readings and groups; a reading that another task is waiting in ends within a second or so."""
        self._closed = True
        for group in list(self.groups):
            await group.aclose()
        for batches in list(self.readings):
            await batches.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _runner(self, reading: EventReading | None = None, *, writes: bool = False) -> AsyncStepRunner:
        """A connection of its own; to the primary if it `writes`, and for a reading that does."""
        if reading is None:
            return self._server.async_runner(math.inf, writes=writes)
        return self._server.async_runner(reading.block_s, reading, writes=reading.source.writes)


class AsyncConsumerGroup(ConsumerGroupBase):
    """`ConsumerGroup` for asyncio, made by `AsyncStreamReader.group`."""

    def __init__(self, reader: AsyncStreamReader, *args: Any) -> None:
        super().__init__(reader, *args)
        self._reader: AsyncStreamReader = reader
        self._runner = reader._runner(writes=True)
        reader.groups.add(self)

    @overload
    def events(self, block_ms: Literal[0] = ...) -> AsyncEvents[StreamEvent]: ...

    @overload
    def events(self, block_ms: int = ...) -> AsyncEvents[StreamEvent | None]: ...

    def events(self, block_ms: int = 0) -> AsyncEvents[Any]:
        """As `ConsumerGroup.events`."""
        return AsyncEvents(self._reader, self._follow(block_ms), self._left)

    def batches(self, block_ms: int = 0) -> AsyncBatches:
        """As `ConsumerGroup.batches`."""
        return AsyncBatches(self._reader, self._follow(block_ms), self._left)

    async def ack(self, *events: StreamEvent) -> None:
        """As `ConsumerGroup.ack`."""
        await self._runner.run(self._ack(events))

    async def deliveries(self, event: StreamEvent) -> int:
        """As `ConsumerGroup.deliveries`."""
        return await self._runner.run(self._deliveries(event))

    async def aclose(self) -> None:
        """As `ConsumerGroup.close`."""
        self._reader.groups.discard(self)
        for batches in [batches for batches in self._reader.readings if batches.reading in self._readings]:
            await batches.aclose()
        await self._runner.run(self._finish())
        await self._runner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
