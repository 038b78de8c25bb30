"""Healing: makes the state file the fold of the stream again; the next poll makes the stream true.

The state file should be exactly the fold of the stream up to `last_stream_id`. Where it is not (an entry deleted by
hand, a lost write, a release with a fault), it is the state file that is corrected, never the stream: an orphan of the
stream enters the state file, and the poll that does not find it in the list appends its PURGED; an action that the
stream has lost leaves it, and the poll appends it as NEW; a state that differs becomes the stream's, and the poll
appends the UPDATE. So the worker stays the only writer of its stream, and nothing races it: what it appends while the
stream is read lies behind the position that is compared.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from hsm_shipper.contract.action_state import ActionState, same_state
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.kernel_line import unpack_place
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import StreamMoved
from hsm_shipper.state.database import BUSY_TIMEOUT_S, connect, immediate, roll_back, translated
from hsm_shipper.state.outbox_rows import read_outbox_sum
from hsm_shipper.state.rows import (
    delete_actions,
    read_actions,
    read_content_sum,
    read_entries,
    read_filled_position,
    read_places,
    write_actions,
    write_position,
)
from hsm_shipper.stream.page_reader import PAGE_ENTRIES
from hsm_shipper.stream.replay import Replay

_log = logging.getLogger(__name__)

_EXAMPLES_MAX = 3
# A busy worker appends while the stream is read. Each round reads what came during the one before, so the rest is
# soon less than a page, and the worker waits for the last of it only.
_ROUNDS_MAX = 20


class Healed(msgspec.Struct):
    """How far the state file was from what the stream says; each list holds the actions concerned."""

    orphans: list[ActionState]
    """Live in the stream, unknown here."""
    missing: list[ActionState]
    """Believed live, not in the stream."""
    differing: list[ActionState]
    """In another state in the stream (this one) than here."""
    moved: list[ActionState]
    """In the same state, held by another entry than is known here: nothing to heal, only to note."""

    def __bool__(self) -> bool:
        return bool(self.orphans or self.missing or self.differing)

    @property
    def has_rows(self) -> bool:
        """Whether anything has to be written."""
        return bool(self or self.moved)


class StateFileHealer:
    """The worker's state file, opened by another process to correct it. Every method raises `StateError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with translated(path, "open"):
            self._connection = connect(path, "rw", BUSY_TIMEOUT_S)

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def position(self) -> Head:
        """The head of the stream that the state file stands at; `StateError` before the worker's first catch-up."""
        with translated(self._path, "read"):
            return read_filled_position(self._connection, self._path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction; rolled back by `rollback`, or by whatever the body raises."""
        with translated(self._path, "write"), immediate(self._connection):
            yield

    def rollback(self) -> None:
        """End the transaction, if one is open, without a trace: a commit would make the worker reload everything."""
        roll_back(self._connection)

    def differences(self, live: ActionFold) -> Healed | None:
        """What differs from `live`; None where only the lines decide, and `live` does not keep their digests.

        An entry never changes, so the row that names the entry that `live` does holds the state that it does (but for
        ids that somebody gave to other entries by hand). Only where it names another one, or none, or another status,
        the lines are compared; a hash that the stream does not tell differs from none.
        """
        healed = Healed([], [], [], [])
        suspects = self._suspect_places(live)
        if not live.has_digests and any(place in live.by_place for place in suspects):
            return None
        for ours in filter(None, map(self._action_at, suspects)):
            theirs = live.by_place.get(ours.place)
            if theirs is None:
                healed.missing.append(ours)
            elif ours.status != theirs.status or not same_state(ours, theirs):
                healed.differing.append(theirs)
            else:  # our row may know the hash and the cookie of a line whose entry does not tell them
                mark = ours.mark if theirs.digest is None else theirs.mark
                healed.moved.append(msgspec.structs.replace(theirs, mark=mark))
        rows = int(self._connection.execute("SELECT count(*) FROM actions").fetchone()[0])
        if rows - len(healed.missing) < len(live):
            known = read_places(self._connection, "actions")
            healed.orphans.extend(action for action in live if action.place not in known)
        if healed.orphans and not live.has_digests:
            return None
        return healed

    def _suspect_places(self, live: ActionFold) -> list[int]:
        """Packed places where the state file does not name the entry that `live` does, or its status."""
        get = live.by_place.get
        suspects = []
        for place, entry_id, status in read_entries(self._connection):
            theirs = get(place)
            if theirs is None or theirs.entry != entry_id or theirs.status != status:
                suspects.append(place)
        return suspects

    def _action_at(self, place: int) -> ActionState | None:
        return next(read_actions(self._connection, "cat_idx = ? AND rec_idx = ?", unpack_place(place)), None)

    def correct(self, healed: Healed, head: Head) -> None:
        """Make the state file what the stream with this head says.

        The head goes with it: a server that brings back what was deleted has another, which the worker notices.
        """
        if not healed.has_rows:
            return
        delete_actions(self._connection, healed.missing)
        write_actions(self._connection, healed.orphans + healed.differing + healed.moved)
        write_position(self._connection, head, read_content_sum(self._connection), read_outbox_sum(self._connection))

    def mark_for_refresh(self, actions: list[ActionState]) -> int:
        """Have the next poll append the state of these again; returns how many were not marked yet."""
        places = ((action.cat_idx, action.rec_idx) for action in actions)
        before = self._connection.total_changes
        self._connection.executemany("INSERT OR IGNORE INTO refresh VALUES (?, ?)", places)
        return self._connection.total_changes - before


def catch_up(replay: Replay, state: StateFileHealer, keep_going: Callable[[], None]) -> None:
    """Fold the stream to where the state file stands, but for the page or so that comes in meanwhile.

    `StreamMoved` if the state file stands behind what was folded, or `StreamBehind` if the server does not hold all
    that it was made of: the stream was another one.
    """
    for _ in range(_ROUNDS_MAX):
        before, position = replay.entries, state.position()
        _check_behind(replay, position)
        replay.go_on(position.last_id, holding=position)
        if replay.entries - before < PAGE_ENTRIES:
            return
        keep_going()


def finish(replay: Replay, position: Head) -> None:
    """Fold the rest, while the worker waits: raises what tells to start over, for that is not to be done here."""
    _check_behind(replay, position)
    replay.step(position.last_id, holding=position)


def _check_behind(replay: Replay, position: Head) -> None:
    if pack_id(position.last_id) < pack_id(replay.until):
        raise StreamMoved(f"the worker went back to {position.last_id} while the stream was read up to {replay.until}")


def tell(mdt: str, healed: Healed) -> None:
    """Say what was healed, with a few examples of each."""
    kinds = (
        (healed.orphans, "in the stream and unknown here: purged by the next poll unless the list holds them"),
        (healed.missing, "missing from the stream: appended again by the next poll"),
        (healed.differing, "in another state in the stream: appended by the next poll as they are"),
    )
    for actions, text in kinds:
        if actions:
            examples = ", ".join(
                f"{action.cat_idx}/{action.rec_idx} {action.action_key} {action.status}"
                for action in actions[:_EXAMPLES_MAX]
            )
            _log.warning("%s: %d actions %s (such as %s)", mdt, len(actions), text, examples)
