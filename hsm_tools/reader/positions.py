"""Where a reader stands in a stream, and what the server's counters tell of entries that it did not see.

Pure bookkeeping: `consumer` reads, and shows what `XINFO STREAM` says now and then.

- *Went back in time*: `last-generated-id` is below our position, or fewer entries were ever added than we have
  counted, or been told of. The server was rolled back, or the stream was deleted and created again.
- *Entries missed*: `entries-added` counts every entry that was ever appended, and unlike `max-deleted-entry-id` it
  also tells of trims. We count along, so each position carries the number of its entry. Standing at the last id, any
  difference is exactly the number of entries that were removed before we read them. With more to read, `added - ours`
  entries lie ahead of us; what exceeds the stream's length is gone. That is exact while a trim is ahead of us, and
  never too much. (Whether the entry at our position is still there tells nothing: an ordinary trim removes it.)

Redis before 7.0 has no `entries-added`: there only ids that go backwards are noticed.

Of a consumer group the server itself keeps the number of the entry that it was given last (`GroupProgress`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from hsm_shipper.contract.stream_head import Head
from hsm_tools.reader.steps import pairs

BEGINNING = b"0-0"

# A landmark is the last entry of a page, so these reach back over the last 64 arrivals of events.
_LANDMARKS_MAX = 64


class StreamInfo(NamedTuple):
    """What `XINFO STREAM` says of a stream.

    `entries_added` and `max_deleted_id` (of XDEL alone) are None where the server does not tell, `first_id` where there
    is no entry.
    """

    last_id: bytes
    length: int
    entries_added: int | None
    first_id: bytes | None = None
    max_deleted_id: bytes | None = None

    @classmethod
    def of(cls, reply: Any) -> StreamInfo:
        """What the reply to `XINFO STREAM` says."""
        told = dict(pairs(reply))
        first = told[b"first-entry"]
        entry_id = first[0] if first else None
        last_id, max_deleted_id = told[b"last-generated-id"], told.get(b"max-deleted-entry-id")
        return cls(last_id, told[b"length"], told.get(b"entries-added"), entry_id, max_deleted_id)

    @property
    def head(self) -> Head:
        """The same for whoever asks whether entries were lost; of its newest entry it tells nothing."""
        first_id, max_deleted_id = (told and told.decode() for told in (self.first_id, self.max_deleted_id))
        return Head(self.last_id.decode(), None, None, first_id or None, self.length, max_deleted_id or None)

    @property
    def removed(self) -> int | None:
        """How many entries were added once and are there no more."""
        return None if self.entries_added is None else max(0, self.entries_added - self.length)


def id_parts(entry_id: bytes) -> tuple[int, int]:
    """(milliseconds, sequence number) of an entry id: ids compare by these, never as text."""
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)


def id_before(entry_id: bytes) -> bytes:
    """The greatest id below `entry_id`; `BEGINNING` has none, and gives itself."""
    milliseconds, sequence = id_parts(entry_id)
    if sequence:
        return b"%d-%d" % (milliseconds, sequence - 1)
    return b"%d-%d" % (milliseconds - 1, 2**64 - 1) if milliseconds else BEGINNING


class Position:
    """A reader's place in one stream: everything up to and including `id` is behind it.

    `number` is how many entries had ever been added up to `id`, None where that is not known. `exists` says whether
    the stream was there when it was last seen.
    """

    def __init__(self, entry_id: bytes, number: int | None, *, exists: bool = True) -> None:
        self.id = entry_id
        self.number = number
        self.exists = exists
        self._added = 0  # how many entries had ever been added, when the server told last
        self._landmarks = deque([entry_id], _LANDMARKS_MAX)

    @classmethod
    def at_end(cls, info: StreamInfo) -> Position:
        """Past every entry there is: what `$` means, resolved once."""
        return cls(info.last_id, info.entries_added)

    @classmethod
    def at_beginning(cls, info: StreamInfo) -> Position:
        """Before the first entry there is; what was removed before counts as none of our business."""
        return cls(BEGINNING, info.removed)

    @classmethod
    def before_birth(cls) -> Position:
        """Before the first entry ever, of a stream that did not exist when reading started."""
        return cls(BEGINNING, 0)

    def advance(self, last_id: bytes, count: int) -> None:
        """Having read `count` more entries, the last of them `last_id`."""
        self.id = last_id
        self.exists = True
        if self.number is not None:
            self.number += count
        self._landmarks.append(last_id)

    def forget(self) -> None:
        """The stream is gone: if it comes back, every entry of it is new."""
        self.rewind(None)
        self.number = 0
        self.exists = False

    def went_back(self, info: StreamInfo) -> bool:
        """Whether the stream's history is not the one that was read up to here."""
        if id_parts(info.last_id) < id_parts(self.id):
            return True
        return info.entries_added is not None and info.entries_added < max(self.number or 0, self._added)

    def landmarks(self, info: StreamInfo) -> list[bytes]:
        """Ids of entries that were read and may still be in the stream, the newest first.

        After a rollback every entry up to one that survived was read: it is safe to read on from there.
        """
        limit = id_parts(info.last_id)
        return [
            landmark for landmark in reversed(self._landmarks) if landmark != BEGINNING and id_parts(landmark) <= limit
        ]

    def rewind(self, landmark: bytes | None) -> None:
        """Read on after `landmark`, or from the first entry; the number is found again by `missed`."""
        self.id = landmark or BEGINNING
        self.number = None
        self._added = 0
        while self._landmarks and self._landmarks[-1] != self.id:
            self._landmarks.pop()
        if not self._landmarks:
            self._landmarks.append(self.id)

    def overtaken(self, info: StreamInfo) -> bool:
        """Whether entries behind it may have been removed, of which nobody knows the number.

        Then it goes on to the first entry that is left: what is removed from now on can be counted.
        """
        if self.number is not None or self.id in (BEGINNING, info.last_id):
            return False
        ahead = info.last_id if info.first_id is None else id_before(info.first_id)
        if id_parts(ahead) <= id_parts(self.id):
            return False
        self.id = ahead
        self.number = info.removed
        return True

    def missed(self, info: StreamInfo) -> int:
        """How many entries were removed before they could be read, each counted in one answer only."""
        self.exists = True
        if info.entries_added is None:
            return 0
        self._added = info.entries_added
        at_end = id_parts(info.last_id) == id_parts(self.id)
        if self.number is None:
            if at_end:
                self.number = info.entries_added
            elif self.id == BEGINNING:
                self.number = info.removed
            return 0
        ahead = 0 if at_end else info.length
        missed = max(0, info.entries_added - self.number - ahead)
        self.number += missed
        return missed


class GroupProgress:
    """How far a consumer group was given a stream, by what `XINFO GROUPS` tells.

    Redis 7.0 counts the entries that it gives (`entries-read`), and none that were removed before: it lags behind for
    ever by those. By how many is seen where the group was given everything.
    """

    def __init__(self) -> None:
        self._uncounted = 0
        self._told = 0

    def removed_unread(self, group: Mapping[bytes, Any], info: StreamInfo) -> int:
        """How many entries were removed before anybody was given them, each counted in one answer only.

        0 where the server does not know. `info` is what it said of the stream just after it told of the group.
        """
        given: int | None = group.get(b"entries-read")
        given_id = id_parts(group[b"last-delivered-id"])
        if given is None or info.entries_added is None or info.removed is None:
            return 0
        if given_id >= id_parts(info.last_id):
            self._uncounted = info.entries_added - given
            return 0
        if info.first_id is not None and id_parts(info.first_id) <= given_id:
            return 0  # what was removed lies behind it
        missed = max(0, info.removed - max(given + self._uncounted, self._told))
        self._told = max(self._told, info.removed)
        return missed
