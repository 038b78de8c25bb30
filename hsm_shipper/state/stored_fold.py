"""The fold of a stream, kept in the state file while the stream is read: however much is live, little is in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.event import PURGED, Event
from hsm_shipper.contract.fold import ActionFold, Entry, Observer
from hsm_shipper.state.rows import actions_with_key, delete_places, index_keys, write_actions


class StoredFold:
    """A fold that holds what one page speaks of, and has all else in the state file. Within one transaction of that.

    What an entry of ours replaces is not read, for the entry says all itself: `observer` is told of a replaced action
    only where that was needed, or was made by the same page.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        actions_at: Callable[[Sequence[int]], dict[int, ActionState]],
        observer: Observer,
    ) -> None:
        """`actions_at` finds the stored actions in some packed places."""
        self._connection = connection
        self._actions_at = actions_at
        self._observer = observer
        self._named: set[int] = set()
        self._stored: dict[int, ActionState] = {}
        self._keys_indexed = False

    def fold_page(self, page: Sequence[Entry]) -> None:
        """Fold in the next entries."""
        fold = ActionFold(self._observer)
        fold.fold_page(page, self._look_up)
        live, stored = fold.by_place, self._stored
        delete_places(self._connection, (self._named | stored.keys()) - live.keys())
        write_actions(self._connection, (action for place, action in live.items() if action is not stored.get(place)))

    def _look_up(self, events: Sequence[Event]) -> Iterable[ActionState]:
        """The stored actions that decide what these events do."""
        unclear = [
            event
            for event in events
            if event.event_type == PURGED or event.first_seen is None or event.status_since is None
        ]
        self._named = _places(events) if unclear else set()
        self._stored = self._actions_at(list(_places(unclear)))
        for action in self._with_keys({event.action_key or "" for event in unclear if event.place is None}):
            self._stored[action.place] = action
        return self._stored.values()

    def _with_keys(self, keys: Iterable[str]) -> Iterable[ActionState]:
        """What a PURGED without a place ends, as earlier shippers wrote it."""
        for key in keys:
            if not self._keys_indexed:
                index_keys(self._connection)
                self._keys_indexed = True
            yield from actions_with_key(self._connection, key)


def _places(events: Iterable[Event]) -> set[int]:
    """The packed places that events name."""
    return {place for event in events if (place := event.place) is not None}
