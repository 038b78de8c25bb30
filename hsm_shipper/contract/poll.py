"""What is told of a poll wherever one is told of: by the poller, in the state file, in the heartbeat."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

# Half of what SQLite holds: a counter that is read from a state file goes on, and must be written again.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Time = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]  # before the year 10000: `datetime` goes no further
Span = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]


class Poll(msgspec.Struct, kw_only=True):
    """One poll of an MDT. Times are seconds since the epoch. The poller fills its own in; whoever is told gets one that
    does not change.
    """

    host: str
    pid: Count
    mdt: str
    last_poll_at: Time
    """When it was over."""
    last_poll_duration_s: Span
    last_poll_read_s: Span | None = None
    """How much of that the kernel took to give the list; None: an earlier release does not tell."""
    lines: Count
    """Lines of the actions file."""
    lines_not_understood: Count | None = None
    """Those of them that are in no stream, and whose actions nobody knows; None: an earlier release does not tell."""
    live: Count
    backlog: Count
    """Changes seen in the list and not in the stream yet."""
    backlog_since: Time | None = None
    """When the first of them was seen that waits in the worker's outbox; None: none does."""


def told_of(poll: Poll) -> dict[str, Any]:
    """What every record of this poll says, by the names of the fields."""
    return {name: getattr(poll, name) for name in Poll.__struct_fields__}
