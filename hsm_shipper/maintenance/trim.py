"""How far a stream can be trimmed, which actions must be refreshed for it to be trimmed further, and the trimming."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.stream_ids import EMPTY_ID, pack_id, unpack_id
from hsm_shipper.contract.trim_bound import length_bound
from hsm_shipper.stream.replay import Replay
from hsm_shipper.stream.stream import ActionStream, GroupPosition

_log = logging.getLogger(__name__)


def oldest_needed(replay: Replay) -> int:
    """Packed id of the oldest entry that a live action needs; without any, the id just past the fold."""
    oldest = next(iter(replay.live), None)
    return pack_id(replay.until) + 1 if oldest is None else pack_id(oldest.entry)


def held_by_groups(replay: Replay, groups: list[GroupPosition], backlog_max: int) -> int | None:
    """Packed id of the oldest entry that a consumer group still needs, None if none does.

    A group that is further behind than `backlog_max` entries holds nothing any more, and that is said.
    """
    oldest: int | None = None
    for group in groups:
        needed = pack_id(group.needs_from)
        backlog = replay.entries - replay.index.ordinal(needed)
        if backlog > backlog_max:
            _log.error(
                "consumer group %s is %d entries behind, more than consumer_group_backlog_max (%d): it loses what is "
                "trimmed; start its consumers, or remove it with XGROUP DESTROY",
                group.name,
                backlog,
                backlog_max,
            )
        elif oldest is None or needed < oldest:
            oldest = needed
    return oldest


def to_refresh(replay: Replay) -> list[ActionState]:
    """The oldest live actions that have to be appended again for the stream to come within its bound, fewest first.

    Refreshing the k oldest costs k entries and frees all that lie before the next one's. Where the live actions alone
    fill the stream, nothing pins garbage and nothing is refreshed.
    """
    live = len(replay.live)
    bound = length_bound(live)
    if replay.entries - replay.index.ordinal(oldest_needed(replay)) <= bound:
        return []
    chosen: list[ActionState] = []
    for action in replay.live:  # in order of their entries
        if replay.entries - replay.index.ordinal(pack_id(action.entry)) + len(chosen) <= bound:
            break
        chosen.append(action)
    return chosen


def trim(stream: ActionStream, replay: Replay, end: int, keep_going: Callable[[], None]) -> int:
    """Remove the entries below the packed id `end`, a page at a time; returns how many went.

    Stops where the stream is found to be behind the fold: then it is another stream, and nothing is known of it.
    """
    if replay.until == EMPTY_ID:  # of an MDT that never had a request there is no stream
        return 0
    removed = 0
    for chunk_end in [*replay.index.chunk_ends(end), end]:
        keep_going()
        gone = stream.trim(unpack_id(chunk_end), replay.until)
        if gone is None:
            _log.warning("stream %s went back while it was trimmed: trimming stops", stream.key)
            break
        removed += gone
    return removed
