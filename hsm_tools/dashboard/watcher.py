"""The thread that looks at the streams, so that whoever shows them never waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from hsm_shipper.errors import CalledOff
from hsm_tools.dashboard.viewer import Viewer
from hsm_tools.following.follow import LiveStreams

_CLOSE_TIMEOUT_S = 0.5


class Watcher:
    """Lets `viewer` look every `interval_s` seconds, and answers questions about the streams between two looks.

    `failure` is what has ended its thread, None while that goes on.
    """

    def __init__(self, viewer: Viewer, interval_s: float) -> None:
        self.viewer = viewer
        self.failure: BaseException | None = None
        self._interval_s = interval_s
        self._paused = False
        self._ended = False
        self._has_looked = False
        self._questions: deque[Callable[[LiveStreams], None]] = deque()
        self._due_s = time.monotonic()
        self._woken = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="looks at the streams", daemon=True)

    def start(self) -> None:
        """Begin with the first look."""
        self._thread.start()

    def close(self) -> None:
        """End; a look that waits for a server that does not answer is left alone."""
        self.viewer.stop()
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
        self.ask(lambda _: self.viewer.look())

    def ask(self, question: Callable[[LiveStreams], None]) -> None:
        """Call `question` in the thread, where the streams stand still."""
        with self._woken:
            self._questions.append(question)
            self._woken.notify()

    def _run(self) -> None:
        try:
            while (question := self._next()) is not None:
                question(self.viewer.streams)
        except CalledOff:
            pass
        except BaseException as error:  # noqa: BLE001 - whoever shows the view raises it
            self.failure = error

    def _next(self) -> Callable[[LiveStreams], None] | None:
        with self._woken:
            while not self._ended:
                if self._questions:
                    return self._questions.popleft()
                rests = self._paused and self._has_looked  # without a single look there is nothing to show
                wait_s = None if rests else self._due_s - time.monotonic()
                if wait_s is not None and wait_s <= 0:
                    self._has_looked = True
                    # A look that took longer than the interval is not made up for.
                    self._due_s = max(self._due_s + self._interval_s, time.monotonic())
                    return lambda _: self.viewer.look()
                self._woken.wait(wait_s)
        return None
