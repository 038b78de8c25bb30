"""The live actions of all MDTs, for tools of one's own: the fold that shipper and tools share, fed with events.

    live = LiveActions()
    for event in StreamReader(host="redis", refreshes=True).history():
        live.apply(event)
    print(len(live), live.counts())

`hsm_tools.live_view` keeps them up to date.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hsm_shipper.contract import fold
from hsm_shipper.errors import MalformedEvent
from hsm_tools.event import StreamEvent


class LiveAction(NamedTuple):
    """One action that is in an MDT's list now. Times are seconds since the epoch, None where no entry tells them."""

    mdt: str
    cat_idx: int
    rec_idx: int
    fid: str
    action: str
    status: str
    cookie: str | None
    first_seen: int | None
    status_since: int | None
    entry_id: str
    """The stream entry that holds this state."""

    def age_s(self, now_s: float | None = None) -> float | None:
        """Seconds since the action was first seen; None where that is not known."""
        return _age_s(self.first_seen, now_s)

    def status_age_s(self, now_s: float | None = None) -> float | None:
        """Seconds since it has its status; None where that is not known."""
        return _age_s(self.status_since, now_s)


class Live(ABC):
    """Live actions by MDT; not to be looked through while they change."""

    @abstractmethod
    def folds(self) -> Iterable[tuple[str, fold.ActionFold]]:
        """MDTs in order, and what is live there."""

    def __len__(self) -> int:
        return sum(len(actions) for _, actions in self.folds())

    def __iter__(self) -> Iterator[LiveAction]:
        """The live actions, MDT by MDT."""
        for mdt, actions in self.folds():
            for it in actions:
                yield LiveAction(
                    mdt, it.cat_idx, it.rec_idx, it.fid, it.action, it.status,
                    it.cookie, it.first_seen, it.status_since, it.entry_id,
                )  # fmt: skip

    def counts(self) -> Counter[tuple[str, str, str]]:
        """How many there are of each (MDT, action, status)."""
        counts: Counter[tuple[str, str, str]] = Counter()
        for mdt, actions in self.folds():
            counts.update((mdt, it.action, it.status) for it in actions)
        return counts


class LiveActions(Live):
    """Feed it every event of the streams, in order and from their beginning; then it holds what is live.

    Every event: of an action that stays live for long, trimming leaves but its refresh, so read with `refreshes=True`.
    An event of an earlier shipper, or of a damaged stream, may name no action: it is counted in `malformed`. What was
    never fed, because it was trimmed before it was read or because a flush took it away, it cannot know.
    """

    def __init__(self) -> None:
        self.malformed = 0
        self._by_stream: dict[str, fold.ActionFold] = {}

    def apply(self, event: StreamEvent) -> None:
        """Fold in one event."""
        try:
            decoded = event.event
        except MalformedEvent:
            self.malformed += 1
            return
        actions = self._by_stream.get(event.stream)
        if actions is None:
            actions = self._by_stream[event.stream] = fold.ActionFold()
        actions.apply(event.id.encode(), decoded)

    def folds(self) -> Iterable[tuple[str, fold.ActionFold]]:
        """MDTs in order, and what is live there."""
        return ((stream.rpartition(":")[2], actions) for stream, actions in sorted(self._by_stream.items()))


def _age_s(since: int | None, now_s: float | None) -> float | None:
    return None if since is None else max(0.0, (time.time() if now_s is None else now_s) - since)
