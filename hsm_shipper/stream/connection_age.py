"""For how long a connection to Redis is kept: what stands behind its name may have changed since it was made.

A name, a virtual address or a proxy that is moved to another server leaves the connections through it where they are.
A primary that was demoted says so to whoever writes. One that was cut off and not demoted goes on taking writes that
nobody else sees, and a replica answers whoever reads for ever. Nothing in an answer tells of these two: so every
program asks the name again now and then. A connection costs a millisecond, and one that ends costs no event.
"""

from __future__ import annotations

import time
from collections.abc import Callable

CONNECTION_AGE_MAX_S = 30.0
"""Less than two polls of the default interval."""


class ConnectionAge:
    """The age of the connections of one client: they are made anew all together, between two commands."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s = clock()

    def is_over(self) -> bool:
        """Whether they are to be closed now; they count as new from then on."""
        now_s = self._clock()
        if now_s - self._since_s < CONNECTION_AGE_MAX_S:
            return False
        self._since_s = now_s
        return True
