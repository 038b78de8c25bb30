"""One maintenance cycle of one stream: reconcile, mark what must be refreshed, trim."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from hsm_shipper.errors import ReplayOvertaken, StreamBehind, StreamMoved
from hsm_shipper.maintenance.reconcile import Healed, StateFileHealer, catch_up, finish, tell
from hsm_shipper.maintenance.trim import held_by_groups, oldest_needed, to_refresh, trim
from hsm_shipper.process.gc_tuning import relax_collector
from hsm_shipper.stream.replay import REPLAYS_MAX, Replay
from hsm_shipper.stream.stream import ActionStream

_log = logging.getLogger(__name__)

_ATTEMPTS = 3  # a worker that went back while the stream was read (a rollback, a flush) hardly does so again


class CycleResult(msgspec.Struct, kw_only=True):
    """What a cycle found and did; `str()` is one line for a person."""

    mdt: str
    entries: int
    """Entries read."""
    live: int
    orphans: int
    missing: int
    differing: int
    malformed: int
    malformed_ids: list[str]
    """The first few of them."""
    trimmed: int
    refreshed: int
    """Actions marked: the next poll appends their state again."""
    length: int
    """Entries left."""
    duration_s: float

    def __str__(self) -> str:
        healed = f"healed {self.orphans} orphans, {self.missing} missing, {self.differing} differing"
        malformed = f", {self.malformed} malformed ({', '.join(self.malformed_ids)} …)" if self.malformed else ""
        return (
            f"{self.mdt}: read {self.entries:,} entries, {self.live:,} live{malformed}; {healed}; "
            f"trimmed {self.trimmed:,}, {self.refreshed:,} to refresh, {self.length:,} left in {self.duration_s:.2f} s"
        )


def run_cycle(
    mdt: str,
    state_path: Path,
    stream: ActionStream,
    *,
    aggressive_trim_threshold: int,
    consumer_group_backlog_max: int,
    keep_going: Callable[[], None],
) -> CycleResult:
    """Heal, trim and mark for refresh. The caller holds the locks, and `keep_going` raises once it has lost them.

    Raises `StateError` and `StreamError`; wherever it ends, the next cycle ends right.
    """
    begun = time.monotonic()
    relax_collector()
    with closing(StateFileHealer(state_path)) as state:
        for attempt in range(1, _ATTEMPTS + 1):
            replay = Replay(stream, lambda _: keep_going(), digests=False)
            try:
                healed, marked = _reconcile(mdt, state, replay, keep_going)
                trimmed = _trim_to_needed(stream, replay, consumer_group_backlog_max, keep_going)
                removed = trimmed
                while removed > aggressive_trim_threshold:
                    # The worker has gone on meanwhile: what it purged or refreshed may have set more entries free.
                    catch_up(replay, state, keep_going)
                    removed = _trim_to_needed(stream, replay, consumer_group_backlog_max, keep_going)
                    trimmed += removed
                break
            except StreamBehind:
                raise  # another server: to read it once more makes it no other
            except StreamMoved as error:
                if attempt == _ATTEMPTS:
                    raise
                _log.info("%s: %s; starting again", mdt, error)
    return CycleResult(
        mdt=mdt,
        entries=replay.entries,
        live=len(replay.live),
        orphans=len(healed.orphans),
        missing=len(healed.missing),
        differing=len(healed.differing),
        malformed=replay.malformed,
        malformed_ids=replay.malformed_ids,
        trimmed=trimmed,
        refreshed=marked,
        length=stream.length(),
        duration_s=time.monotonic() - begun,
    )


def _reconcile(mdt: str, state: StateFileHealer, replay: Replay, keep_going: Callable[[], None]) -> tuple[Healed, int]:
    for _ in range(REPLAYS_MAX):
        catch_up(replay, state, keep_going)
        keep_going()
        try:
            with state.transaction():
                position = state.position()
                finish(replay, position)
                healed = state.differences(replay.live)
                if healed is None:
                    state.rollback()
                    replay.start_over(digests=True)
                    continue
                state.correct(healed, replay.head(position))
                marked = state.mark_for_refresh(to_refresh(replay))
                if not healed.has_rows and not marked:
                    state.rollback()
            break
        except ReplayOvertaken:
            replay.start_over()
    else:
        raise ReplayOvertaken(f"{mdt}: the stream is trimmed faster than it can be read")
    tell(mdt, healed)
    return healed, marked


def _trim_to_needed(
    stream: ActionStream, replay: Replay, consumer_group_backlog_max: int, keep_going: Callable[[], None]
) -> int:
    end = oldest_needed(replay)
    held = held_by_groups(replay, stream.groups(), consumer_group_backlog_max)
    return trim(stream, replay, end if held is None else min(end, held), keep_going)
