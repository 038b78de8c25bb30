"""From a difference between listing and stream to the event that says it and the row that remembers it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from hsm_shipper.contract.action_state import UNKNOWN_ENTRY, ActionState
from hsm_shipper.contract.event import NEW, PURGED, UPDATE, Event, encode
from hsm_shipper.contract.kernel_line import ActionRecord, unpack_place
from hsm_shipper.worker.held_lines import NewLine

ADOPTED: Final = "ADOPTED"
REFRESH: Final = "REFRESH"


class Change(msgspec.Struct, frozen=True, gc=False):
    """One step of what is known to be live: `before` leaves it, `after` enters it, `payload` tells the stream.

    `payload` is None where the stream already says it and only our row learns the line's hash (ADOPTED). All others get
    their entry when they are appended.
    """

    kind: Literal["NEW", "UPDATE", "REFRESH", "PURGED", "ADOPTED"]
    payload: bytes | None
    before: ActionState | None
    after: ActionState | None

    @property
    def place(self) -> int:
        """The packed place that it happens in."""
        action = self.after or self.before
        assert action is not None, "a change has a before or an after"
        return action.place


class ChangeWriter(msgspec.Struct, frozen=True):
    """Writes the changes of one MDT, as seen by one host."""

    mdt: str
    host: str
    include_raw: bool = True

    def state(self, new: NewLine, before: ActionState | None, timestamp: int) -> Change:
        """The change that a line makes, `before` being what the cache has in its place: nothing or the same action.

        The very line that the stream already holds is a refresh: the same state, times and all, in a new entry.
        """
        record = new.record
        first_seen = status_since = timestamp
        if before is not None:
            if before.first_seen is not None:
                first_seen = before.first_seen
            if before.status == record.status and before.status_since is not None:
                status_since = before.status_since
        after = ActionState(
            record.place,
            record.fid,
            record.action,
            record.status,
            new.digest + record.cookie.encode(),
            first_seen,
            status_since,
            UNKNOWN_ENTRY,
        )
        if before is None:
            return Change(NEW, self._payload(NEW, new, after, timestamp), None, after)
        told = before.digest
        if told is None and before.status == record.status:
            after.entry = before.entry
            return Change(ADOPTED, None, before, after)
        if told == new.digest:  # looked at only because it is marked
            return Change(REFRESH, self._payload(UPDATE, new, after, timestamp, refresh=True), before, after)
        return Change(UPDATE, self._payload(UPDATE, new, after, timestamp), before, after)

    def purged(self, before: ActionState, timestamp: int) -> Change:
        """The change that ends `before`."""
        cat_idx, rec_idx = unpack_place(before.place)
        event = Event(
            PURGED,
            before.action_key,
            mdt=self.mdt,
            cat_idx=cat_idx,
            rec_idx=rec_idx,
            fid=before.fid,
            action=before.action,
            status=PURGED,
            timestamp=timestamp,
            hash=None if before.digest is None else before.digest.hex(),
            cookie=before.cookie,
            first_seen=before.first_seen,
            status_since=before.status_since,
            host=self.host,
            last_status=before.status,
        )
        return Change(PURGED, encode(event), before, None)

    def _payload(
        self,
        kind: Literal["NEW", "UPDATE"],
        new: NewLine,
        after: ActionState,
        timestamp: int,
        *,
        refresh: bool = False,
    ) -> bytes:
        raw: str | None = None
        exact = False
        if self.include_raw:
            try:
                raw, exact = new.line.decode(), True
            except UnicodeDecodeError:
                raw = new.line.decode(errors="replace")
        cat_idx, rec_idx = unpack_place(after.place)
        return encode(
            Event(
                kind,
                f"{after.fid}:{after.action}",
                mdt=self.mdt,
                cat_idx=cat_idx,
                rec_idx=rec_idx,
                fid=after.fid,
                action=after.action,
                status=after.status,
                timestamp=timestamp,
                raw=raw,
                hash=None if exact else new.digest.hex(),
                cookie=new.record.cookie,
                first_seen=after.first_seen,
                status_since=after.status_since,
                host=self.host,
                refresh=refresh,
            )
        )


def rows_of(changes: Sequence[Change]) -> tuple[list[ActionState], list[ActionState]]:
    """What leaves the state file, and what enters it, be it in the place of what was there."""
    left = [change.before for change in changes if change.before is not None]
    return left, [change.after for change in changes if change.after is not None]


def same_action(before: ActionState, record: ActionRecord) -> bool:
    """Whether a line speaks of the action that was in its place: places are reused in time."""
    return (
        before.fid == record.fid
        and before.action == record.action
        and (before.cookie is None or before.cookie == record.cookie)
    )
