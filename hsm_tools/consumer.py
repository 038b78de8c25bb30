"""The consumer API: one iterator over the events of every MDT's stream.

    from lustre_hsm_action_stream.consumer import StreamReader

    for event in StreamReader(host="redis").events():
        print(event.mdt, event.data.get("fid"), event.data.get("status"))

Events of one stream come in order, and none is skipped that the server still has:

- Without `from_beginning` or `start` the end of each stream is looked up once; a stream born later is read from its
  first entry.
- Trouble with the connection is waited out for ever and nothing is passed over for it. What only a person can put
  right (a password, a permission, another kind of server) is raised as `StreamRefused`.
- Streams that were deleted, rolled back, or trimmed before they were read are noticed within the discovery interval
  (a second or so when idle) and said in the log `hsm_tools.consumer`. Reading goes on from where nothing is lost:
  after a rollback, entries that cannot be told from new ones come a second time.
- An entry that holds no JSON object is counted in `malformed`, said in the log at a low rate, and passed over.
- A refresh, which repeats an old state for the sake of trimming, is passed over unless it is asked for.

`docs/consumers.md` has the rest, with examples.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from typing import Any, Literal, Self, TypeVar, cast, overload
from weakref import WeakKeyDictionary, WeakSet

from hsm_tools.event import StreamEvent
from hsm_tools.reader.batches import EventReading, Where
from hsm_tools.reader.consumer_group_base import ConsumerGroupBase
from hsm_tools.reader.reader import Reader
from hsm_tools.reader.server import Server
from hsm_tools.reader.starts import StartArgument
from hsm_tools.reader.step_runner import StepRunner

__all__ = ["ConsumerGroup", "StreamEvent", "StreamReader"]

T = TypeVar("T")


class StreamReader(Reader):
    """Reads all streams `<prefix>:<MDT>` of one Redis database.

    `host` is localhost by default, `port` 6379, `db` 1; `redis_url` (redis://, rediss://, unix://, redis+sentinel:// or
    redis+cluster://) stands in place of all three, and means database 1 as well where it names none.
    `discovery_interval` is the longest time in seconds until a new stream is found; in a database with few keys it
    takes about one. With `refreshes` its readings and
    groups give the events that repeat an old state (`StreamEvent.is_refresh`) as well: who folds events needs them,
    who acts on events would act again. `redis_kwargs` go to `redis.Redis` (`username`, `password`, `ssl`,
    `unix_socket_path`, ...) and win over the reader's own settings; only `decode_responses` means nothing here.

    Nothing is sent before the first event is asked for. Every reading has a connection of its own, and ends with the
    reader: by `close`, which any thread may call, or at the end of a `with` block.
    Raises `ConfigError` for a prefix, an address or a certificate, `ValueError` or `TypeError` for an argument that
    cannot be used.
    """

    def _set_up(self, server: Server, prefix: str, discovery_interval_s: float, *, refreshes: bool) -> None:
        super()._set_up(server, prefix, discovery_interval_s, refreshes=refreshes)
        self._readings: WeakKeyDictionary[Generator[Any], EventReading] = WeakKeyDictionary()
        self.groups: WeakSet[ConsumerGroup] = WeakSet()
        """Those that may have something left to acknowledge."""

    @overload
    def events(
        self, from_beginning: bool = ..., block_ms: Literal[0] = ..., start: StartArgument = ...
    ) -> Generator[StreamEvent]: ...

    @overload
    def events(
        self, from_beginning: bool = ..., block_ms: int = ..., start: StartArgument = ...
    ) -> Generator[StreamEvent | None]: ...

    def events(
        self, from_beginning: bool = False, block_ms: int = 0, start: StartArgument = None
    ) -> Generator[StreamEvent | None]:
        """Yield events as they arrive, for ever; every call is a reading of its own.

        `from_beginning`: first everything that the streams hold. `start`: first what follows a saved `position`
        (streams that it does not name were born since, and are read from their first entry), or what follows one id
        `<milliseconds>-<sequence>` in every stream. `block_ms`: yield None whenever that many milliseconds pass
        without an event; with 0 there is never a None. The first None marks the end of history: none comes before
        all that was there has been read, not even while Redis is away.

        Raises `StreamRefused` when the server refuses in a way that will not pass.
        """
        reading = self._follow(from_beginning, block_ms, start)
        return self.tracked(reading, _each(reading, self.run(reading)))

    def batches(
        self, from_beginning: bool = False, block_ms: int = 0, start: StartArgument = None
    ) -> Generator[list[StreamEvent]]:
        """Yield what `events` yields, in lists of events that arrived together; an empty list stands for None."""
        reading = self._follow(from_beginning, block_ms, start)
        return self.tracked(reading, _whole(reading, self.run(reading)))

    def history(
        self, start: StartArgument = None, last: int | None = None, where: Where | None = None
    ) -> Generator[StreamEvent]:
        """Yield what the streams hold now, and end.

        "Now" is when the first event is asked for: what arrives later is left. `start` as for `events`; `where`: only
        events that it is true of; `last`: only so many of them, the last ones over all streams, in the order of their
        ids. Afterwards `events(start=reader.position)` goes on without a gap.

        Raises `StreamUnavailable` without a server, and when it goes away; `StreamRefused` if it refuses.
        """
        reading = self._look_back(start, last, where)
        events = cast("Generator[StreamEvent]", _each(reading, self.run(reading)))  # it has no empty batches
        return self.tracked(reading, events)

    def streams(self) -> list[str]:
        """Keys of the streams that are there now, sorted; one try.

        Raises `StreamUnavailable` without a server, `StreamRefused` if it refuses.
        """
        with closing(self._runner()) as runner:
            return runner.run(self._list())

    def discover_streams(self) -> list[str]:
        """`streams` by its name in earlier releases; a reading finds its streams by itself."""
        return self.streams()

    def group(
        self,
        name: str,
        consumer: str | None = None,
        *,
        from_beginning: bool = False,
        start: StartArgument = None,
        reclaim_after_s: float = 60.0,
        batch_size: int = 100,
    ) -> ConsumerGroup:
        """One consumer of the consumer group `name`: each event is given to one of them.

        `consumer` names this one, the host by default: give every process of a host a name of its own, and the same
        one again after a restart, for it is first given what it had not acknowledged. `from_beginning` and `start`
        say where the group begins if no stream knows it yet; without them it begins now.

        An event that is not acknowledged within `reclaim_after_s` seconds is given again, to whichever consumer asks
        first; so take a time that handling a batch never needs. A batch has at most `batch_size` events of a stream.
        """
        return ConsumerGroup(self, name, consumer, from_beginning, start, reclaim_after_s, batch_size)

    def close(self) -> None:
        """End all readings and groups; a reading that another thread is waiting in ends within a second or so."""
        self._closed = True
        for group in list(self.groups):
            group.close()
        self.end(self._readings.values())

    def end(self, readings: Iterable[EventReading]) -> None:
        """End some of the readings, and close their connections."""
        ending = {*readings}
        for reading in ending:
            reading.ending.set()
        for generator, reading in list(self._readings.items()):
            if reading in ending:
                with suppress(ValueError):  # "generator already executing": in another thread, which sees the flag
                    generator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _runner(self, reading: EventReading | None = None, *, writes: bool = False) -> StepRunner:
        """A connection of its own; to the primary if it `writes`, and for a reading that does."""
        if reading is None:
            return self._server.runner(math.inf, writes=writes)
        return self._server.runner(reading.block_s, reading, writes=reading.source.writes)

    def tracked(self, reading: EventReading, generator: Generator[T]) -> Generator[T]:
        """`generator`, which `close` will end."""
        self._readings[generator] = reading
        return generator

    def run(self, reading: EventReading) -> Generator[list[StreamEvent]]:
        """The batches of a reading."""
        with closing(self._runner(reading)) as runner:
            while (batch := runner.run(reading.next_batch())) is not None:
                yield batch


class ConsumerGroup(ConsumerGroupBase):
    """One consumer of a consumer group, made by `StreamReader.group`: events come at least once.

        with reader.group("alerts") as group:
            for event in group.events():
                handle(event)
                group.ack(event)

    First comes what this consumer was given before and did not acknowledge, then what any consumer left
    unacknowledged for too long (counted in `reclaimed`), then what is new. The group is created on streams as they
    are found: where no stream knows it yet as `group` was told, else from the first entry, for such a stream was born
    since. Acknowledge every event, those that do not interest you as well: maintenance keeps what a group needs.
    Entries that hold no JSON object are counted in the reader's `malformed` and acknowledged; refreshes are
    acknowledged as well, unless the reader was made to give them.
    """

    def __init__(self, reader: StreamReader, *args: Any) -> None:
        super().__init__(reader, *args)
        self._reader: StreamReader = reader
        self._runner = reader._runner(writes=True)
        reader.groups.add(self)

    @overload
    def events(self, block_ms: Literal[0] = ...) -> Generator[StreamEvent]: ...

    @overload
    def events(self, block_ms: int = ...) -> Generator[StreamEvent | None]: ...

    def events(self, block_ms: int = 0) -> Generator[StreamEvent | None]:
        """Yield events for ever; None whenever `block_ms` milliseconds pass without one, unless it is 0.

        Events that were left in a batch when an earlier call was given up come first.
        Raises `StreamRefused` when the server refuses in a way that will not pass.
        """
        reading = self._follow(block_ms)
        return self._reader.tracked(reading, self._each(reading))

    def batches(self, block_ms: int = 0) -> Generator[list[StreamEvent]]:
        """Yield what `events` yields, in lists of events that arrived together; an empty list stands for None."""
        reading = self._follow(block_ms)
        return self._reader.tracked(reading, self._all(reading))

    def ack(self, *events: StreamEvent) -> None:
        """Tell the server that events were handled, in one round trip.

        Without a server it is told later: before the next reading, or by `close`. `StreamRefused` if it refuses.
        """
        self._runner.run(self._ack(events))

    def deliveries(self, event: StreamEvent) -> int:
        """How often an event was given to a consumer so far; 0 once it is acknowledged, or gone. One round trip.

        Raises `StreamUnavailable` without a server, `StreamRefused` if it refuses.
        """
        return self._runner.run(self._deliveries(event))

    def close(self) -> None:
        """End the readings, and acknowledge what could not be acknowledged before; the reader stays open."""
        self._reader.end(self._readings)
        self._runner.run(self._finish())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _all(self, reading: EventReading) -> Generator[list[StreamEvent]]:
        if self._left:
            left = [*self._left]
            self._left.clear()
            yield left
        yield from self._reader.run(reading)

    def _each(self, reading: EventReading) -> Generator[StreamEvent | None]:
        with closing(self._all(reading)) as batches:
            for batch in batches:
                self._left.extend(batch)
                if not batch:
                    yield None
                while self._left:
                    yield self._left.popleft()


def _each(reading: EventReading, batches: Generator[list[StreamEvent]]) -> Generator[StreamEvent | None]:
    with closing(batches):
        for batch in batches:
            for event in batch:
                reading.current = event
                yield event
            if not batch:
                yield None


def _whole(reading: EventReading, batches: Generator[list[StreamEvent]]) -> Generator[list[StreamEvent]]:
    with closing(batches):
        for batch in batches:
            reading.all_handed_out()
            yield batch
