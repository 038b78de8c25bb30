"""Which of the actions that a reading of the actions file lacks may be believed gone. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from hsm_shipper.worker.listing_scan import ListingScan

# More known places than this beyond the last line read: the end of the list may have been cut off.
LOST_END = 10
# A listing of so many lines is looked at for its order in any case: that takes no time.
_SHORT_LINES = 1_000


@dataclass(frozen=True)
class PurgeDecision:
    """Which missing actions are believed gone, and which ones the next complete reading decides on."""

    purge: Set[int]
    unconfirmed_absent: Set[int]
    doubt: str | None
    """Why not all of the missing ones are believed gone."""


def decide_purges(
    scan: ListingScan, absent_before: Set[int], *, fault: str | None, coordinator: str | None
) -> PurgeDecision:
    """Decide on what a reading missed.

    `fault` says why the reading is incomplete; `coordinator` is `hsm_control` where it is init or stopping: no such
    reading is proof that anything ended. A complete one that looks wrong purges only what the complete one before
    missed as well: a list that shrinks step by step settles, and so does one with a line nobody understands. The same
    goes for a listing that is not sorted by place (a coordinator outside the kernel may print its queue, and cut it
    short when its time is up): there is no telling whether its end was cut off.
    """
    if scan.lines <= _SHORT_LINES:
        scan.is_sorted()  # to know it when a later one, still shorter, has lost something
    missing = scan.missing()
    doubt = _no_proof(scan, fault, coordinator)
    if doubt is not None:
        return PurgeDecision(set(), absent_before & missing, doubt)
    doubt = _suspicion(scan, missing)
    if doubt is None:
        return PurgeDecision(missing, set(), None)
    purge = missing & absent_before
    return PurgeDecision(purge, missing - purge, doubt)


def _no_proof(scan: ListingScan, fault: str | None, coordinator: str | None) -> str | None:
    if fault is not None:
        return f"the reading is incomplete: {fault}"
    if coordinator is not None:
        return f"the coordinator is in state {coordinator!r}"
    if 2 * scan.not_understood > scan.lines:
        return f"{scan.not_understood} of {scan.lines} lines are not understood"
    return None


def _suspicion(scan: ListingScan, missing: Set[int]) -> str | None:
    if not missing:
        return None
    if 2 * len(missing) > scan.known_at_begin:
        return f"{len(missing)} of {scan.known_at_begin} live actions are missing"
    if scan.not_understood:
        return f"{scan.not_understood} of {scan.lines} lines are not understood"
    if not scan.is_sorted():
        return "the listing is not sorted by place, so its end may be missing"
    last_place = scan.last_place()
    beyond = sum(place > last_place for place in missing)
    if beyond > LOST_END:
        return f"the last {beyond} live actions are missing"
    return None
