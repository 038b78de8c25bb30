"""When a loop takes its turns: at an even pace, and never without a rest."""

from __future__ import annotations

import math
import time

from hsm_shipper.process.stop_signal import StopSignal

# Of what a turn took: it leaves at least a third of the time free.
REST = 0.5
# A turn that would ask for more was held up: by a Redis that hangs, the replay of a long stream, SIGSTOP.
LONGEST_REST_S = 60.0


class Cadence:
    """Ticks every `interval_s` seconds of the monotonic clock; one that comes too late is skipped, not run twice.

    Between two turns there is a rest of at least `REST` of what the last one took, up to `LONGEST_REST_S`. Without,
    turns that take about as long as the interval, or longer, would follow each other at once: a very long list would
    keep a processor of the metadata server busy all the time, just when it has most to do.
    """

    def __init__(self, interval_s: float, first_tick_s: float | None = None) -> None:
        """The first tick comes after one interval, or at `first_tick_s` of the monotonic clock."""
        self._interval_s = interval_s
        self.left_out = 0
        """Ticks that passed before the last wait began: the turns that they would have been were not taken."""
        self.late_s = 0.0
        """By how much the last wait began behind the tick that the turn before it was for."""
        self.took_s = 0.0
        """How long the turn before the last wait took; or the one before that, where its rest kept this one waiting."""
        self.held_up_s = 0.0
        """How much longer than it was to be the wait before that turn was: the process did not run."""
        self._rests_for_s = 0.0
        self._overslept_s = 0.0
        self._begun = time.monotonic()
        self._next = self._begun + interval_s if first_tick_s is None else first_tick_s

    def wait(self, stop: StopSignal, at_most_s: float = math.inf) -> bool:
        """Wait for the next tick, or `at_most_s` seconds; True, and at once, if this process has been asked to stop.

        A turn is what is done between two waits.
        """
        timeout_s = min(at_most_s, self._seconds_to_next())
        asked = time.monotonic()
        stopped = stop.wait(timeout_s)
        self._begun = time.monotonic()
        self._overslept_s = max(0.0, self._begun - asked - timeout_s)
        return stopped

    def _seconds_to_next(self) -> float:
        now = time.monotonic()
        self.late_s = max(0.0, now - self._next)
        self.left_out = int(self.late_s // self._interval_s)
        took_s = now - self._begun
        self.took_s, self.held_up_s = max(took_s, self._rests_for_s), self._overslept_s
        if now >= self._next:
            self._next += (self.left_out + 1) * self._interval_s
        rest_s = min(REST * took_s, LONGEST_REST_S)
        self._rests_for_s = took_s if rest_s > self._next - now else 0.0
        return max(self._next - now, rest_s)
