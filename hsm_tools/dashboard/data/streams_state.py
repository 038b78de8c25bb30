"""What one look at the streams finds. Pure.

It is made of the streams as they are in memory and never changes afterwards, so that another thread may show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_tools.live_state.health import WorkerHealth
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.live_state.summary import ActionGroup, GroupKey
from hsm_tools.live_state.tally import Arrivals

STEP_S = Arrivals.STEP_S


class MdtState(NamedTuple):
    """One MDT. Times are seconds since the epoch."""

    mdt: str
    live: int
    entries: int
    """Entries folded to know them."""
    length: int
    """Entries that its stream has."""
    malformed: int
    last_event_at: float | None
    """When its newest entry was appended, by the server's clock; None without one."""
    heartbeat: Heartbeat | None
    health: WorkerHealth
    trouble: str | None
    """Why what is shown is not what the stream says now."""


class StreamsState(NamedTuple):
    """All MDTs, and their live actions by MDT, action, status and archive."""

    taken_at: float
    mdts: tuple[MdtState, ...]
    groups: Mapping[GroupKey, ActionGroup]
    """Those that pass the filters."""
    arrivals: tuple[int, ...]
    """Entries of each ten seconds of the last hour, the oldest first."""
    gone: Mapping[str, float]
    """When streams vanished that were there before, by MDT."""

    @property
    def live(self) -> int:
        """Live actions of all MDTs, whatever the filters."""
        return sum(mdt.live for mdt in self.mdts)

    @property
    def shown(self) -> int:
        """Live actions that pass the filters."""
        return sum(group.count for group in self.groups.values())

    @property
    def entries(self) -> int:
        """Entries folded."""
        return sum(mdt.entries for mdt in self.mdts)

    @property
    def last_event_at(self) -> float | None:
        """When the newest entry of all was appended, by the server's clock."""
        return max((mdt.last_event_at for mdt in self.mdts if mdt.last_event_at is not None), default=None)

    def rate(self, seconds: int) -> float:
        """Events a second over the last `seconds`, to ten of them."""
        steps = max(1, seconds // STEP_S)
        return sum(self.arrivals[-steps:]) / (steps * STEP_S)


def mdt_state(stream: LiveStream, now_s: float) -> MdtState:
    """One stream as it is now."""
    return MdtState(
        stream.mdt,
        stream.live_count,
        stream.entries,
        stream.length,
        stream.malformed,
        stream.last_entry_at,
        stream.heartbeat,
        stream.health(now_s),
        stream.trouble,
    )


def vanished(before: StreamsState | None, mdts: Iterable[MdtState], now_s: float) -> dict[str, float]:
    """`StreamsState.gone` of the look that follows `before`: a stream that was there is missed until it comes back."""
    if before is None:
        return {}
    there = {mdt.mdt for mdt in mdts if mdt.last_event_at is not None}
    missed = dict.fromkeys((mdt.mdt for mdt in before.mdts if mdt.last_event_at is not None), now_s)
    return {mdt: at for mdt, at in ({**missed, **before.gone}).items() if mdt not in there}


def read_anew(before: StreamsState | None, mdts: Iterable[MdtState]) -> list[str]:
    """MDTs whose streams were folded again from their first entries since: fewer of them are folded now."""
    if before is None:
        return []
    entries = {mdt.mdt: mdt.entries for mdt in before.mdts}
    return [mdt.mdt for mdt in mdts if mdt.entries < entries.get(mdt.mdt, 0)]


def some(mdts: Sequence[str]) -> str:
    """MDTs in a few words."""
    where = ", ".join(mdts[:2])
    return where if len(mdts) < 3 else f"{len(mdts)} MDTs ({where}, ...)"
