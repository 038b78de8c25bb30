"""The memory of a following `hsm-action-top` does not grow with the events that pass."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hsm_shipper.contract.redis_keys import stream_key
from tests.support.dashboards import COMMAND, PREFIX, Streams, event
from tests.support.servers import RedisServer
from tests.support.terminal import a_terminal, needs_tmux
from tests.support.usage import resident_kib
from tests.support.waiting import eventually

MDT = "elm-MDT0000"
LIVE = 2_000
EVENTS_PER_ACTION = 4
EVENTS_PER_HOUR = 200 * 3600
# Of the entries read so far a few thousand ids are kept, never more than some MiB of them.
GROWTH_MAX_KIB = 4096


class Churn:
    """Actions that come, start, end and leave, with never more than `LIVE` of them; old entries are trimmed."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._recs = itertools.count()
        self._live: list[int] = []
        self.events = 0

    def go_on(self, actions: int) -> None:
        """So many actions come, and as many leave."""
        come = list(itertools.islice(self._recs, actions))
        self._live += come
        leave, self._live = self._live[: max(0, len(self._live) - LIVE)], self._live[-LIVE:]
        events = [event(MDT, rec) for rec in come]
        events += [event(MDT, rec, "UPDATE", "STARTED") for rec in come]
        events += [event(MDT, rec, "UPDATE", "SUCCEED") for rec in come]
        events += [event(MDT, rec, "PURGED", "SUCCEED") for rec in leave]
        self._streams.add(MDT, *events)
        self.events += len(events)
        self._streams.beat(MDT)

    def trim(self) -> None:
        """As maintenance does: what no live action needs goes."""
        self._streams.client.xtrim(stream_key(PREFIX, MDT), maxlen=EVENTS_PER_ACTION * LIVE, approximate=False)


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    return Streams(redis_server, redis_db)


def processed(text: str) -> int:
    found = re.findall(r"Total Events Processed: ([\d,]+)", text)
    return int(found[-1].replace(",", "")) if found else 0


def growth_kib(streams: Streams, rounds: int, process: int, seen: Callable[[], int]) -> tuple[int, int]:
    """Resident memory after the first rounds, and how much more it was at the end."""
    churn = Churn(streams)
    warm_kib = 0
    for turn in range(rounds):
        churn.go_on(LIVE)
        eventually(lambda: seen() >= churn.events)
        churn.trim()
        if turn == rounds // 3:
            warm_kib = resident_kib(process)
    return warm_kib, resident_kib(process) - warm_kib


@contextmanager
def dashboard(streams: Streams) -> Iterator[tuple[int, Callable[[], int]]]:
    with a_terminal() as terminal:
        terminal.type(shlex.join([COMMAND, *streams.where, "-d", "0.1"]))
        terminal.shows("Listening for live updates...")
        yield terminal.child(COMMAND), lambda: processed(terminal.screen())


@needs_tmux
def test_the_dashboards_memory_is_flat_over_churn(streams: Streams) -> None:
    with dashboard(streams) as (process, seen):
        _, growth = growth_kib(streams, 9, process, seen)
    assert growth < GROWTH_MAX_KIB


@pytest.mark.soak
@needs_tmux
@pytest.mark.timeout(3600)
def test_the_dashboards_memory_is_flat_over_an_hour_of_churn(streams: Streams) -> None:
    rounds = EVENTS_PER_HOUR // (EVENTS_PER_ACTION * LIVE)
    with dashboard(streams) as (process, seen):
        warm, growth = growth_kib(streams, rounds, process, seen)
    print(f"\nhsm-action-top: {warm:,} KiB after 20 minutes of 200 events/s, {growth:+,} KiB 40 minutes later")
    assert growth < GROWTH_MAX_KIB
