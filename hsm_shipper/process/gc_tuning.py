"""Python's garbage collector, set for processes that hold hundreds of thousands of actions for their whole life."""

from __future__ import annotations

import gc

# Containers allocated between two looks at the youngest. By default (700) every page of entries and every chunk of
# lines causes several, and the full ones walk through all that is live, to find nothing: a third of a long replay.
_YOUNGEST = 50_000


def relax_collector() -> None:
    """Look for cyclic garbage seldom: actions and entries, which come and go in great numbers, hold no cycles."""
    gc.set_threshold(_YOUNGEST, 20, 20)
