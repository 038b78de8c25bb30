"""The thread that looks at the streams, so that whoever shows them never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from hsm_shipper.errors import CalledOff, HsmError, unexpected
from hsm_shipper.process.backoff import backoff_s
from hsm_tools.dashboard.data.view_updater import ViewUpdater
from hsm_tools.live_state.follow import LiveStreams

_CLOSE_TIMEOUT_S = 0.5
# After a look that failed everything is read anew: not at once, and less often each time that it fails again.
_FIRST_REST_S = 5.0
_LONGEST_REST_S = 300.0

logger = logging.getLogger(__name__)


class UpdateThread:
    """Lets `updater` look every `interval_s` seconds, and answers questions about the streams between two looks.

    An error that nobody foresaw is said by the view and in the log, and the looks go on after a rest of `first_rest_s`
    or more. `failure` is what has ended the thread, None while that goes on: an address that was never of use, say.
    """

    def __init__(self, updater: ViewUpdater, interval_s: float, *, first_rest_s: float = _FIRST_REST_S) -> None:
        self.updater = updater
        self.failure: BaseException | None = None
        self._interval_s = interval_s
        self._paused = False
        self._ended = False
        self._has_looked = False
        self._first_rest_s = first_rest_s
        self._failures = 0  # looks in a row
        self._orders: deque[Callable[[], None]] = deque()
        self._due_s = time.monotonic()
        self._woken = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="looks at the streams", daemon=True)

    def start(self) -> None:
        """Begin with the first look."""
        self._thread.start()

    def close(self) -> None:
        """End; a look that waits for a server that does not answer is left alone."""
        self.updater.stop()
        with self._woken:
            self._ended = True
            self._woken.notify()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_TIMEOUT_S)

    @property
    def interval_s(self) -> float:
        """Seconds from one look to the next."""
        return self._interval_s

    @interval_s.setter
    def interval_s(self, seconds: float) -> None:
        with self._woken:
            self._due_s += seconds - self._interval_s
            self._interval_s = seconds
            self._woken.notify()

    @property
    def paused(self) -> bool:
        """Whether there are no looks for now; questions are answered all the same."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        with self._woken:
            self._paused = paused
            self._due_s = time.monotonic()
            self._woken.notify()

    def look_now(self) -> None:
        """Look at once, also while paused."""
        self._order(self._look)

    def ask(self, question: Callable[[LiveStreams], None], failed: Callable[[HsmError], None]) -> None:
        """Call `question` in the thread, where the streams stand still; `failed` there with why that did not work."""
        self._order(partial(self._answer, question, failed))

    def _order(self, order: Callable[[], None]) -> None:
        with self._woken:
            self._orders.append(order)
            self._woken.notify()

    def _answer(self, question: Callable[[LiveStreams], None], failed: Callable[[HsmError], None]) -> None:
        try:
            question(self.updater.streams)
        except Exception as error:  # noqa: BLE001 - whoever asked shows it
            failed(_said("looking through the streams failed", error))

    def _look(self) -> None:
        try:
            self.updater.look()
        except Exception as error:
            if isinstance(error, CalledOff) or (isinstance(error, HsmError) and self.updater.view.state is None):
                raise
            self.updater.failed(_said("looking at the streams failed", error))
            self._failures += 1
            with self._woken:
                self._due_s = time.monotonic() + backoff_s(self._failures, self._first_rest_s, _LONGEST_REST_S)
        else:
            self._failures = 0

    def _run(self) -> None:
        try:
            while (order := self._next()) is not None:
                order()
        except CalledOff:
            pass
        except BaseException as error:  # noqa: BLE001 - whoever shows the view raises it
            self.failure = error

    def _next(self) -> Callable[[], None] | None:
        with self._woken:
            while not self._ended:
                if self._orders:
                    return self._orders.popleft()
                rests = self._paused and self._has_looked  # without a single look there is nothing to show
                wait_s = None if rests else self._due_s - time.monotonic()
                if wait_s is not None and wait_s <= 0:
                    self._has_looked = True
                    # A look that took longer than the interval is not made up for.
                    self._due_s = max(self._due_s + self._interval_s, time.monotonic())
                    return self._look
                self._woken.wait(wait_s)
        return None


def _said(what: str, error: Exception) -> HsmError:
    found = unexpected(what, error)
    logger.error("%s", found)
    return found
