"""How long a stream may be: what maintenance trims to, and auditors hold it against."""

from __future__ import annotations

SLACK_ENTRIES = 1000


def length_bound(live: int) -> int:
    """Entries that a stream with `live` live actions has at most after a maintenance cycle."""
    return 2 * live + SLACK_ENTRIES
