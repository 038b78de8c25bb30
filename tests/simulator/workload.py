"""What makes an MDT's list live: users who ask, copytools that work, and big lists made at once."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Final

from .coordinator import ENABLED
from .mdt import SimulatedMdt
from .records import (
    ARCHIVE,
    CANCEL,
    CANCELED,
    FAILED,
    FINAL_STATUSES,
    IMPLICIT_RESTORE,
    REMOVE,
    RESTORE,
    STARTED,
    SUCCEED,
    WAITING,
    Record,
)

DEFAULT_MIX: Final[Mapping[tuple[str, str], float]] = {
    (ARCHIVE, SUCCEED): 46,
    (ARCHIVE, FAILED): 3,
    (ARCHIVE, CANCELED): 1,
    (ARCHIVE, STARTED): 14,
    (ARCHIVE, WAITING): 13,
    (RESTORE, SUCCEED): 10,
    (RESTORE, FAILED): 1,
    (RESTORE, STARTED): 4,
    (RESTORE, WAITING): 1,
    (REMOVE, SUCCEED): 5,
    (REMOVE, WAITING): 1,
    (CANCEL, SUCCEED): 1,
}
"""Weights of (action, status) in the list of a busy MDT."""

_ACTIONS: Final = (ARCHIVE,) * 15 + (RESTORE,) * 4 + (REMOVE,)
_DATA: Final = (b"",) * 8 + (b"tag=x", b"tag=migration owner=hsm0 run=2025-11-10T18:40:00Z")
_SAME_FILE_SHARE: Final = 0.02
_CANCEL_SHARE: Final = 0.01
_RETRY_SHARE: Final = 0.02
_FAILURE_SHARE: Final = 0.03
_CANCEL_WORK_S: Final = 1.0


def populate(mdt: SimulatedMdt, count: int, mix: Mapping[tuple[str, str], float] = DEFAULT_MIX) -> None:
    """Give an MDT many records at once, drawn from weights of (action, status), with those that wait last.

    Finished ones are spread over the past grace delay, so that they leave one after the other. A CANCEL belongs to
    the last request before it.
    """
    rng = random.Random(f"populate/{mdt.seed}/{mdt.name}")
    draws = rng.choices(list(mix), list(mix.values()), k=count)
    draws.sort(key=lambda draw: draw[1] == WAITING)
    not_waiting = sum(status != WAITING for _, status in draws)
    now = mdt.now
    request: Record | None = None
    for number, (action, status) in enumerate(draws):
        if status in FINAL_STATUSES:
            mdt.now = now - mdt.grace_delay_s * (1 - number / not_waiting)
        if action == CANCEL and request is not None:
            record = mdt.cancel(request)
        else:
            record = request = _submit(mdt, rng, ARCHIVE if action == CANCEL else action, rng.choice((1, 2)), request)
        # The record of another action shows no trace of having run.
        if status == STARTED or (status != WAITING and action in (RESTORE, CANCEL)):
            mdt.start(record)
        if status not in (WAITING, STARTED):
            mdt.finish(record, status)
        mdt.now = now


class Workload:
    """Requests that arrive at random, and copytools that take `mean_work_s` for each, at random.

    `advance` this instead of its MDT. Everything follows from the MDT's seed: a run can be repeated, in other steps
    too.
    """

    def __init__(
        self,
        mdt: SimulatedMdt,
        *,
        arrivals_per_s: float = 10.0,
        mean_work_s: float = 20.0,
        archive_ids: Sequence[int] = (1, 2),
    ) -> None:
        self.mdt = mdt
        self.arrivals_per_s = arrivals_per_s
        self.mean_work_s = mean_work_s
        self._archive_ids = archive_ids
        self._rng = random.Random(f"workload/{mdt.seed}/{mdt.name}")
        self._recent: deque[Record] = deque(maxlen=100)
        # Times at which a copytool ends its work on a record, or at which (None) a request arrives. The number keeps
        # equal times in order, and records from being compared.
        self._events: list[tuple[float, int, Record | None]] = []
        self._event_number = 0
        self._expect_arrival()
        for record in mdt.running():
            self._expect_end(record)

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that happens in it."""
        end = self.mdt.now + seconds
        while self._events[0][0] <= end:
            at, _, record = heappop(self._events)
            self.mdt.advance_to(at)
            if record is None:
                self._arrive()
            elif self.mdt.is_running(record):
                self._end(record)
            for started in self.mdt.dispatch():
                self._expect_end(started)
        self.mdt.advance_to(end)

    def _arrive(self) -> None:
        self._expect_arrival()
        if self.mdt.hsm_control != ENABLED:
            return  # clients block until the MDT is back
        target = self._rng.choice(self._recent) if self._recent else None
        if self._rng.random() < _CANCEL_SHARE and target is not None and target.status not in FINAL_STATUSES:
            self.mdt.cancel(target)
            return
        action = self._rng.choice(_ACTIONS)
        if action == REMOVE:
            fid = target.fid if target is not None else None
            for archive_id in self._archive_ids:
                fid = self.mdt.submit(REMOVE, fid, archive_id).fid
        else:
            self._recent.append(_submit(self.mdt, self._rng, action, self._rng.choice(self._archive_ids), target))

    def _end(self, record: Record) -> None:
        luck = self._rng.random()
        if record.action == CANCEL:
            self.mdt.finish(record)
        elif luck < _RETRY_SHARE:
            self.mdt.retry(record)
        else:
            self.mdt.finish(record, FAILED if luck < _RETRY_SHARE + _FAILURE_SHARE else SUCCEED)

    def _expect_arrival(self) -> None:
        self._expect(1 / self.arrivals_per_s, None)

    def _expect_end(self, record: Record) -> None:
        self._expect(_CANCEL_WORK_S if record.action == CANCEL else self.mean_work_s, record)

    def _expect(self, mean_delay_s: float, record: Record | None) -> None:
        at = self.mdt.now + self._rng.expovariate(1 / mean_delay_s)
        self._event_number += 1
        heappush(self._events, (at, self._event_number, record))


def _submit(mdt: SimulatedMdt, rng: random.Random, action: str, archive_id: int, other: Record | None) -> Record:
    """A request that looks like a real one, now and then for the file of another request."""
    same_file = other is not None and rng.random() < _SAME_FILE_SHARE
    return mdt.submit(
        action,
        fid=other.fid if other is not None and same_file else None,
        archive_id=archive_id,
        data=rng.choice(_DATA),
        flags=IMPLICIT_RESTORE if action == RESTORE and rng.random() < 0.5 else 0,
    )
