"""Processes that fold streams beside this one.

A fold keeps one processor busy, and Redis serves several. So whoever has to fold many entries of several streams takes
some of these streams, and others are folded by processes that it starts. They read only, hold nothing that is not
read again as well, and are killed when they are no longer needed: what they have folded comes to this process whole.
"""

from __future__ import annotations

import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError
from hsm_tools.live_state.folded_stream import FoldedStream
from hsm_tools.live_state.tally import Tally
from hsm_tools.reader.positions import StreamInfo

# To start one takes as long as to fold some 60,000 entries, and a processor that others may want.
ENTRIES_PER_PROCESS = 100_000
_PROGRAM = Path(__file__).with_name("reading_process.py")
# Those that started it are asked to end: it ends with them, and says nothing.
_NOT_FOR_CHILDREN = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_END_TIMEOUT_S = 1.0


class Order(NamedTuple):
    """A stream to fold from its first entry up to `end`; what is counted goes on from `tally`."""

    mdt: str
    key: str
    end: StreamInfo
    tally: Tally


class ReadingFailure(NamedTuple):
    """The error that folding ended with."""

    kind: type[HsmError]
    message: str
    hint: str

    @property
    def error(self) -> HsmError:
        """To raise it here."""
        return self.kind(self.message, self.hint)


Answer = int | FoldedStream | ReadingFailure
"""What comes of an order: now and then how many entries are folded, in the end everything, or why not."""


class SideBySide(NamedTuple):
    """In how many processes streams may be folded, this one among them, and where they are."""

    config: Config
    jobs: int

    def beside(self, lengths: Sequence[int]) -> int:
        """How many processes it takes beside this one to fold streams of so many entries."""
        if not lengths:
            return 0
        beside_the_longest = sum(lengths) - max(lengths)  # for that one stays where it is
        return min(self.jobs, len(lengths), 1 + beside_the_longest // ENTRIES_PER_PROCESS) - 1

    def start(self, count: int, orders: deque[Order], told: Callable[[Order, Answer], None]) -> Processes:
        """Start so many, which begin at once."""
        return Processes(self.config, count, orders, told)


class Process:
    """One of them. It ends when `connection` is closed, also by the end of this process, whatever that ends by."""

    def __init__(self, order: Order) -> None:
        """Raises `OSError` where it cannot be started."""
        from multiprocessing.connection import Pipe  # late: most reports need no second process

        self.order = order
        """What it folds now, once it has been told to."""
        self.connection, its = Pipe()
        with its:
            self._process = _started(its)

    def begin(self, config: Config) -> None:
        """Have it fold its first stream."""
        for what in (sys.path, config, self.order):
            self._send(what)

    def go_on(self, order: Order) -> None:
        """Have it fold another one."""
        self.order = order
        self._send(order)

    def answer(self) -> Answer:
        """The next that it tells; `HsmError` if it has ended."""
        try:
            answer: Answer = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        return answer

    def close(self) -> None:
        """End it at once."""
        self.connection.close()
        self._process.kill()
        self._process.wait()

    def _send(self, what: Any) -> None:
        try:
            self.connection.send(what)
        except OSError:
            raise self._ended() from None

    def _ended(self) -> HsmError:
        try:
            status = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            how = "no longer answers"
        else:
            how = f"ended with exit status {status}"
            if status < 0:
                how = f"was ended by signal {-status} ({signal.strsignal(-status)})"
        return HsmError(
            f"the process that was to read stream {self.order.key} beside this one {how}",
            "has the kernel killed it for lack of memory? With --jobs 1 this process reads all streams itself",
        )


def _started(its: Any) -> subprocess.Popen[bytes]:
    # Not forked: threads may run here. What is blocked now is blocked in that process for ever.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_CHILDREN)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM), str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Processes:
    """So many of them; each takes one of `orders` after the other, and what it tells is given to `told`."""

    def __init__(self, config: Config, count: int, orders: deque[Order], told: Callable[[Order, Answer], None]) -> None:
        self._orders = orders
        self._told = told
        self._processes: list[Process] = []
        self._ready = selectors.DefaultSelector()
        try:
            with suppress(OSError):  # too many processes, or no room for another: those that run and this one do it all
                for _ in range(count):
                    self._start(config)
        except BaseException:
            self.close()
            raise

    def attend(self, timeout_s: float | None = 0.0) -> None:
        """Take what they have told by now, and tell them to go on; with a timeout wait for it, None for ever.

        Raises `HsmError` where one of them has ended, and whatever `told` raises.
        """
        for key, _ in self._ready.select(timeout_s):
            process: Process = key.data
            order, answer = process.order, process.answer()
            if not isinstance(answer, int):
                self._done(process)
            self._told(order, answer)

    def finish(self) -> None:
        """Wait until there are no more orders, and they are done with theirs."""
        while self._processes:
            self.attend(None)

    def close(self) -> None:
        """End them at once."""
        for process in self._processes:
            process.close()
        self._processes.clear()
        self._ready.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, config: Config) -> None:
        process = Process(self._orders[0])
        del self._orders[0]
        self._processes.append(process)
        self._ready.register(process.connection, selectors.EVENT_READ, process)
        process.begin(config)

    def _done(self, process: Process) -> None:
        if self._orders:
            process.go_on(self._orders.popleft())
        else:
            self._ready.unregister(process.connection)
            self._processes.remove(process)
            process.close()
