"""From a difference between listing and stream to the event that says it and the row that remembers it. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from hsm_shipper.actions import ActionRecord, unpack_place
from hsm_shipper.events import NEW, PURGED, UPDATE, Event, encode, line_digest, state_event
from hsm_shipper.fold import LiveAction


class Change(msgspec.Struct, frozen=True, gc=False):
    """One step of the belief: `before` leaves it, `after` enters it, `payload` tells the stream.

    `payload` is None where the stream already says it and only our row learns the line's hash.
    """

    kind: Literal["NEW", "UPDATE", "PURGED", "ADOPTED"]
    payload: bytes | None
    before: LiveAction | None
    after: LiveAction | None


class ChangeWriter(msgspec.Struct, frozen=True):
    """Writes the changes of one MDT, as seen by one host."""

    mdt: str
    host: str
    include_raw: bool = True

    def state(self, line: bytes, record: ActionRecord, before: LiveAction | None, timestamp: int) -> Change:
        """The change that `line` makes, `before` being what the cache has in its place: nothing or the same action."""
        digest = line_digest(line)
        if before is None:
            after = _live(record, digest, timestamp, timestamp)
            return Change(NEW, self._payload(NEW, line, record, after, timestamp), None, after)
        first_seen = timestamp if before.first_seen is None else before.first_seen
        kept = before.status == record.status and before.status_since is not None
        after = _live(record, digest, first_seen, before.status_since if kept else timestamp)
        if before.digest is None and before.status == record.status:
            return Change("ADOPTED", None, before, after)
        return Change(UPDATE, self._payload(UPDATE, line, record, after, timestamp), before, after)

    def purged(self, before: LiveAction, timestamp: int) -> Change:
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
        self, kind: Literal["NEW", "UPDATE"], line: bytes, record: ActionRecord, after: LiveAction, timestamp: int
    ) -> bytes:
        assert after.first_seen is not None and after.status_since is not None
        return encode(
            state_event(
                kind,
                line,
                record,
                mdt=self.mdt,
                host=self.host,
                timestamp=timestamp,
                first_seen=after.first_seen,
                status_since=after.status_since,
                include_raw=self.include_raw,
            )
        )


def same_action(before: LiveAction, record: ActionRecord) -> bool:
    """Whether a line speaks of the action that was in its place: places are reused in time."""
    return (
        before.fid == record.fid
        and before.action == record.action
        and (before.cookie is None or before.cookie == record.cookie)
    )


def _live(record: ActionRecord, digest: bytes, first_seen: int, status_since: int | None) -> LiveAction:
    return LiveAction(
        record.place, record.fid, record.action, record.status, record.cookie, digest, first_seen, status_since, ""
    )
