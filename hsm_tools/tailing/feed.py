"""The loop of `hsm-stream-tail`: events are read by one thread, their paths found by others, and printed by this one.

So an event leaves the moment that its path is known or its time is over, whatever the reading waits for.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from hsm_shipper.process.output import LOOK_FOR_READER_S, nobody_reads, print_out
from hsm_tools.fid_paths.paths import Paths, Pending
from hsm_tools.tailing.hold_back import HoldBack
from hsm_tools.tailing.view import EventView, Wanted

if TYPE_CHECKING:  # importing it costs a tool's --help the Redis client
    from hsm_tools.consumer import StreamEvent, StreamReader

# One second of the fastest writer; 40 MB. What is more is printed without paths, or not read yet.
_HELD_MAX = 20_000
# A few pages, so that a slow terminal slows down the reading, not the growth of memory.
_UNPRINTED_BATCHES = 4
_HISTORY_BATCH = 1000
_FULL_INTERVAL_S = 0.02
_LEFT_OUT_INTERVAL_S = 60.0


class _End(NamedTuple):
    """Nothing more will be read, because of `error` if there is one."""

    error: BaseException | None


Inbox = queue.Queue["list[StreamEvent] | _End | None"]
"""Batches as they were read, and None when there are new paths."""


def new_inbox() -> Inbox:
    """The queue that `show` takes from."""
    return queue.Queue(_UNPRINTED_BATCHES)


def wake(inbox: Inbox) -> None:
    """Say that there are new paths; a full inbox will be looked at anyway."""
    with suppress(queue.Full):
        inbox.put_nowait(None)


def read_into(inbox: Inbox, batches: Iterable[list[StreamEvent]]) -> None:
    """Read in a thread of its own; its errors come out of `show`."""

    def read() -> None:
        try:
            for batch in batches:
                inbox.put(batch)
        except BaseException as error:  # noqa: BLE001 it is raised again where it can be handled
            inbox.put(_End(error))
        else:
            inbox.put(_End(None))

    threading.Thread(target=read, name="reader", daemon=True).start()


def show(
    inbox: Inbox,
    view: EventView,
    paths: Paths | None,
    longest_wait_s: float,
    say: Callable[[str], None],
    *,
    follow: bool,
) -> None:
    """Print what comes in until it ends; raises what ended it, once everything that came before is printed.

    `BrokenPipeError` where nobody reads any more, also if nothing comes.

    `paths`: None to show FIDs. `follow`: rather print events without paths than fall behind. `say` is called with
    what a person should know.
    """
    held = _hold_back(paths, longest_wait_s, _HELD_MAX if follow else math.inf)
    left_out = _LeftOut(view, say)
    end: _End | None = None
    while end is None or len(held):
        if end is None and not follow and len(held) >= _HELD_MAX:
            time.sleep(_FULL_INTERVAL_S)  # the reading waits, too
        else:
            received = _receive(inbox, held.due_s)
            if isinstance(received, _End):
                end = received
            elif received:
                held.put(view.select(received), time.monotonic())
        lines = view.lines(held.leaving(time.monotonic()))
        if lines:
            print_out("\n".join(lines))
        elif nobody_reads():
            raise BrokenPipeError
        left_out.report(is_over=end is not None and not len(held))
    if end.error is not None:
        raise end.error


def _hold_back(paths: Paths | None, longest_wait_s: float, capacity: float) -> HoldBack[Wanted]:
    if paths is None:
        return HoldBack(lambda _wanted: None, lambda _wanted: None, 0.0, capacity)

    # The key of the stream is an MDT's name for certain; what the event says may be anything.
    def ask(wanted: Wanted) -> None:
        paths.ask(wanted.event.stream.rpartition(":")[2], wanted.about.fid)

    def answer(wanted: Wanted) -> str | Pending | None:
        return paths.answer(wanted.event.stream.rpartition(":")[2], wanted.about.fid)

    return HoldBack(ask, answer, longest_wait_s, capacity)


def _receive(inbox: Inbox, due_s: float | None) -> list[StreamEvent] | _End | None:
    """What comes next; None if nothing does before `due_s`, or for a second."""
    due_in_s = math.inf if due_s is None else due_s - time.monotonic()
    try:
        return inbox.get(timeout=max(0.0, min(due_in_s, LOOK_FOR_READER_S)))
    except queue.Empty:
        return None


class _LeftOut:
    """Says, at a low rate, how many events `--path` left out because nobody can tell whether it wants them."""

    def __init__(self, view: EventView, say: Callable[[str], None]) -> None:
        self._view = view
        self._say = say
        self._said = 0
        self._due_s = time.monotonic() + _LEFT_OUT_INTERVAL_S

    def report(self, *, is_over: bool) -> None:
        count = self._view.without_path - self._said
        if count and (is_over or time.monotonic() >= self._due_s):
            self._said += count
            self._due_s = time.monotonic() + _LEFT_OUT_INTERVAL_S
            self._say(f"--path left out events whose paths are not known (in time: see --path-wait): {count}")


def history(reader: StreamReader, start: str | None = None) -> Iterator[list[StreamEvent]]:
    """What the streams hold now, after the entry id `start`, in batches."""
    return _in_batches(reader.history(start))


def newest(reader: StreamReader, count: int, view: EventView) -> Iterator[list[StreamEvent]]:
    """The last `count` events over all streams that `view` shows, whatever their paths are."""
    return _in_batches(reader.history(last=count, where=lambda event: bool(view.select([event]))))


def _in_batches(events: Iterable[StreamEvent]) -> Iterator[list[StreamEvent]]:
    batch: list[StreamEvent] = []
    for event in events:
        batch.append(event)
        if len(batch) == _HISTORY_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
