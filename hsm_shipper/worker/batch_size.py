"""How many events one call of the append script holds, fitted to how long the calls before held the server. Pure.

A server that is asked by sixteen workers at once, or whose machine has other work, takes several times as long for a
batch as it does alone, and answers nobody else meanwhile.
"""

from __future__ import annotations

# 1,000 events of 500 B hold a server that is left alone for 3 to 4 ms, and no reply is worth more.
BATCH_EVENTS = 1000
BATCH_BYTES = 1024 * 1024
# Such a batch takes a millisecond. Still smaller ones cost more, most of all in transactions of the state file, and
# what keeps their reply waiting is somebody else.
SMALLEST_EVENTS = 250
HELD_MAX_S = 0.005
_GROWTH_EVENTS = 50
# Every so many calls one is waited for at once. While the next batch is prepared, nobody sees how long the server
# takes.
_TIMED_EVERY = 8
# A reply that takes no longer to read was there before.
_READ_S = 0.0005


def held_s(reply_s: float, waited_s: float, round_trip_s: float) -> float | None:
    """How long a call held the server, or at most; None where that cannot be told from ours.

    `reply_s` is from sending it to having read the reply, `waited_s` what of that passed while we did nothing but wait,
    and `round_trip_s` the shortest such time of any call: the way there and back.
    """
    at_most_s = reply_s - round_trip_s
    return at_most_s if waited_s > _READ_S or at_most_s <= HELD_MAX_S else None


def fitted(limit: int, events: int, held: float) -> int:
    """The limit of the next call after one of `events` events that was made under `limit` and held the server so long.

    Down to half of it, and up slowly. Of a batch that is small anyway it is not the size that takes long, and one far
    below the limit does not say that more would not take too long.
    """
    if held > HELD_MAX_S and events >= SMALLEST_EVENTS:
        return max(SMALLEST_EVENTS, events // 2)
    if held <= HELD_MAX_S and 2 * events >= limit:
        return min(BATCH_EVENTS, limit + _GROWTH_EVENTS)
    return limit


class BatchSize:
    """What the next batch may hold."""

    def __init__(self) -> None:
        self.events = BATCH_EVENTS
        self._calls = 0

    @property
    def payload_bytes(self) -> int:
        """About as many bytes of payloads."""
        return BATCH_BYTES * self.events // BATCH_EVENTS

    def is_to_be_timed(self) -> bool:
        """Whether the call that is made now is one to wait for before the next batch is prepared."""
        self._calls += 1
        return self._calls % _TIMED_EVERY == 1

    def fit(self, events: int, held: float | None) -> None:
        """A call of so many events was answered, having held the server so many seconds if that is known."""
        if held is not None:
            self.events = fitted(self.events, events, held)
