"""The asyncio reader behind the blocking one's face, so that one test holds for both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from hsm_shipper.config import Config
from hsm_tools.aio import AsyncConsumerGroup, AsyncStreamReader
from hsm_tools.consumer import StreamReader
from hsm_tools.reader import group_source, streams
from tests.support.servers import RedisServer

T = TypeVar("T")


class _Loop:
    """An event loop that runs while it is waited for; its owners share it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.get_loop().run_until_complete(coroutine)

    def close(self) -> None:
        self._runner.close()


class _Reading:
    def __init__(self, run: _Loop, reading: Any) -> None:
        self._run, self._reading = run, reading

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._run(anext(self._reading))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._run(self._reading.aclose())


class _Group:
    def __init__(self, run: _Loop, group: AsyncConsumerGroup) -> None:
        self._run, self._group = run, group

    def events(self, block_ms: int = 0) -> _Reading:
        return _Reading(self._run, self._group.events(block_ms))

    def batches(self, block_ms: int = 0) -> _Reading:
        return _Reading(self._run, self._group.batches(block_ms))

    def ack(self, *events: Any) -> None:
        self._run(self._group.ack(*events))

    def deliveries(self, event: Any) -> int:
        return self._run(self._group.deliveries(event))

    def close(self) -> None:
        self._run(self._group.aclose())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def __enter__(self) -> _Group:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Reader:
    def __init__(self, run: _Loop, reader: AsyncStreamReader) -> None:
        self._run, self._reader = run, reader

    def events(self, *args: Any, **kwargs: Any) -> _Reading:
        return _Reading(self._run, self._reader.events(*args, **kwargs))

    def batches(self, *args: Any, **kwargs: Any) -> _Reading:
        return _Reading(self._run, self._reader.batches(*args, **kwargs))

    def history(self, *args: Any, **kwargs: Any) -> _Reading:
        return _Reading(self._run, self._reader.history(*args, **kwargs))

    def group(self, *args: Any, **kwargs: Any) -> _Group:
        return _Group(self._run, self._reader.group(*args, **kwargs))

    def streams(self) -> list[str]:
        return self._run(self._reader.streams())

    def close(self) -> None:
        self._run(self._reader.aclose())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Readers:
    """Makes readers of one kind, typed as the blocking one."""

    def __init__(self, kind: str) -> None:
        self._run = _Loop() if kind == "asyncio" else None
        self._made: list[StreamReader] = []

    def __call__(self, *args: Any, **kwargs: Any) -> StreamReader:
        return self._keep(AsyncStreamReader(*args, **kwargs) if self._run else StreamReader(*args, **kwargs))

    def from_config(self, config: Config, **kwargs: Any) -> StreamReader:
        kind = AsyncStreamReader if self._run else StreamReader
        return self._keep(kind.from_config(config, **kwargs))

    def close(self) -> None:
        for reader in self._made:
            reader.close()
        if self._run:
            self._run.close()

    def _keep(self, reader: Any) -> StreamReader:
        if self._run:
            reader = _Reader(self._run, reader)
        self._made.append(reader)
        made: StreamReader = reader
        return made


@pytest.fixture(params=["blocking", "asyncio"])
def readers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Readers]:
    """Makes readers: of each kind in turn. Idle ones look more often than a user's: what they notice comes soon."""
    for module in (streams, group_source):
        monkeypatch.setattr(module, "IDLE_LOOK_INTERVAL_S", 0.1)
    readers = Readers(request.param)
    yield readers
    readers.close()


@pytest.fixture
def reader(
    redis_server: RedisServer, redis_db: int, readers: Readers, caplog: pytest.LogCaptureFixture
) -> StreamReader:
    """Each of the two on an empty database, with all that it logs."""
    caplog.set_level(logging.DEBUG, "hsm_tools.consumer")
    return readers(redis_server.host, redis_server.port, redis_db)
