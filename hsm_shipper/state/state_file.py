"""The state file of one MDT: at every commit exactly the fold of its stream up to `last_stream_id`.

Beside that it keeps, in order, the events that Redis has not taken yet (`outbox_rows`). One process owns the file
(under the worker's lock); people and `status` read beside it. Another process may correct it in a transaction of its
own, which shows here as `StateChanged`.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.fold import ActionFold, Observer
from hsm_shipper.contract.kernel_line import INDEX_MAX, pack_place, unpack_place
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StateChanged, StateCorrupt, StateUnwritable
from hsm_shipper.migrations import STEPS, migrate
from hsm_shipper.state.content_sum import ContentSum
from hsm_shipper.state.damage import refuse_damage, set_aside
from hsm_shipper.state.database import BUSY_TIMEOUT_S, LOG_MAX_BYTES, connect, immediate, translated
from hsm_shipper.state.newer import migrations_of
from hsm_shipper.state.outbox_rows import (
    OUTBOX_COLUMNS,
    OUTBOX_SUM_COLUMNS,
    OutboxRow,
    OutboxSum,
    changed_over,
    columns_of,
    delete_to,
    follows,
    last_rows,
    read_outbox_sum,
    read_rows,
    states_in,
    write_rows,
)
from hsm_shipper.state.poll_status import PollStatus, status_in
from hsm_shipper.state.room import TIGHT_BYTES, Room, free_bytes, room_of
from hsm_shipper.state.rows import (
    COLUMNS,
    POSITION_COLUMNS,
    SUM_COLUMNS,
    Digests,
    PlacesAndDigests,
    delete_actions,
    has_entry_before,
    read_actions,
    read_places,
    read_position,
    unindex_keys,
    write_actions,
    write_position,
)
from hsm_shipper.state.stored_fold import StoredFold

# Changes of a long list are spread over all its pages, and each is read to compare and again to be written: the second
# time from the kernel's cache, which the metadata server can have back, where more here would be ours for good.
_CACHE_KIB = 1024
# Such changes write one page each: at SQLite's own 1,000 a poll of them would wait for the disk several times.
_CHECKPOINT_PAGES = 16_384
# Where room is short: 1 MB.
_CHECKPOINT_PAGES_IF_TIGHT = 256

# SQLite before 3.32 takes 999 parameters. More than these are no faster, and a statement of 900 takes 140 KB, of which
# the last 128 different ones are kept.
_PLACES_PER_QUERY = 300
_PLACES_STEP = 100
_STATUS_COLUMNS = PollStatus.__struct_fields__
_TABLES = {
    "actions": COLUMNS,
    "missed": "cat_idx, rec_idx",
    "refresh": "cat_idx, rec_idx",
    "stream_position": f"{POSITION_COLUMNS}, {SUM_COLUMNS}, {OUTBOX_SUM_COLUMNS}",
    "outbox": OUTBOX_COLUMNS,
    "poll_status": ", ".join(_STATUS_COLUMNS),
}


Index = TypeVar("Index")
MakeIndex = Callable[[Iterator[PlacesAndDigests], set[int]], Index]


class Loaded(NamedTuple, Generic[Index]):
    """What a worker keeps in memory; places are packed."""

    head: Head | None
    """Where it is in the stream, None before the first catch-up."""
    line_index: Index
    """What was made of the places and hashes of the actions that are live once the outbox is sent."""
    missed: set[int]
    """What the last complete reading missed without being believed."""
    marked: set[int]
    """What is to be refreshed."""


class StateFile:
    """The open state file. Raises `StateError` (see `errors`) from every method."""

    def __init__(self, path: Path) -> None:
        """Open `path`, making or migrating it as needed; only its owner, under the worker's lock, may."""
        self.path = path
        with translated(path, "open"):
            self._connection = connect(path, "rwc", BUSY_TIMEOUT_S)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        self._file_id = self._stat()
        self._version: int | None = None
        self._is_tight = False
        self._content = ContentSum()
        self.outbox = OutboxSum()
        """What waits for Redis, as of `load` and what was done since."""
        self.outbox_since: int | None = None
        """When the first of that was seen, in seconds since the epoch; None where nothing waits."""

    def _prepare(self) -> None:
        done = migrations_of(self._connection, self.path)  # before anything is written to it
        with translated(self.path, "open"):
            refuse_damage(self._connection, self.path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._connection.execute(f"PRAGMA journal_size_limit = {LOG_MAX_BYTES}")
        with translated(self.path, "migrate"):
            if not done.issuperset(STEPS):
                migrate(self._connection)
            for table, columns in _TABLES.items():  # somebody may have dropped one
                self._connection.execute(f"SELECT {columns} FROM {table} LIMIT 0")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def is_current(self) -> bool:
        """Whether `path` still names the file that is open: somebody may have removed or replaced it."""
        return self._stat() == self._file_id

    def is_changed(self) -> bool:
        """Whether another process has committed to it since `load`."""
        with translated(self.path, "read"):
            return self._data_version() != self._version

    def load(self, index: MakeIndex[Index]) -> Loaded[Index]:
        """Everything that the worker keeps in memory.

        `index` is given the packed places and the MD5s of some actions at a time, for there may be many, and the places
        that are to be refreshed. It is what is live once the outbox is sent.
        """
        with translated(self.path, "read"), immediate(self._connection):
            version = self._data_version()
            head = read_position(self._connection)
            marked = read_places(self._connection, "refresh")
            digests, self.outbox = Digests(self._connection), read_outbox_sum(self._connection)
            indexed = index(self._once_sent(digests), marked)
            missed = read_places(self._connection, "missed")
            status_in(self._connection)  # damage in it is to be found before anything is shipped
            since = self._first_seen_at()
        self._version, self._content, self.outbox_since = version, digests.found, since
        return Loaded(head, indexed, missed, marked)

    def live_actions(self) -> ActionFold:
        """The whole fold."""
        live = ActionFold()
        with translated(self.path, "read"):
            for action in read_actions(self._connection):
                live.put(action)
        return live

    def actions_at(self, places: Sequence[int]) -> dict[int, ActionState]:
        """The live actions in the given packed places."""
        asked = set(places)
        with translated(self.path, "read"):
            return {
                action.place: action
                for where in _where_places(places)
                for action in read_actions(self._connection, *where)
                if action.place in asked
            }

    def waiting_at(self, places: Sequence[int]) -> dict[int, OutboxRow]:
        """The last event that waits of each of the given packed places."""
        if not self.outbox.events:
            return {}
        asked = set(places)
        with translated(self.path, "read"):
            rows = [row for where in _where_places(places) for row in last_rows(self._connection, *where)]
        return {row.place: row for row in rows if row.place in asked}

    def waiting_behind(self, row_id: int, limit: int) -> list[OutboxRow]:
        """The first so many events that wait, in order, behind the one with this id; all ids are above 0."""
        with translated(self.path, "read"):
            return read_rows(self._connection, row_id, limit)

    def room(self) -> Room:
        """What its file system has left, and what taking out all that waits may need of it."""
        with translated(self.path, "read"):
            pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
            size_bytes = pages * self._connection.execute("PRAGMA page_size").fetchone()[0]
        try:
            return room_of(self.path, size_bytes)
        except OSError as error:
            message = f"cannot look at the file system of state file {self.path}: {error.strerror}"
            raise StateUnwritable(message, "look at its folder, and at the mount") from error

    def shrink(self) -> None:
        """Give the disk back what a long outbox took, if it is much; within no transaction."""
        with translated(self.path, "shrink"):
            free = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
            if free * self._connection.execute("PRAGMA page_size").fetchone()[0] > LOG_MAX_BYTES:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # this is what makes the file shorter

    def outbox_follows(self) -> bool:
        """Whether what waits goes on from the live actions: another process may have corrected those."""
        with translated(self.path, "read"):
            return not self.outbox.events or follows(self._connection)

    def needs_entry_before(self, entry_id: str | None) -> bool:
        """Whether any live action needs an entry before `entry_id`; with None: whether there is any live action."""
        with translated(self.path, "read"):
            return has_entry_before(self._connection, entry_id)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction, taken before the body runs; `StateChanged` if another process committed since `load`.

        Whatever the body raises rolls it back.
        """
        before = self._content, self.outbox, self.outbox_since
        try:
            with translated(self.path, "write"):
                self._fit_log()
            with translated(self.path, "write"), immediate(self._connection):
                if self._data_version() != self._version:
                    raise StateChanged(f"state file {self.path} was changed by another process")
                yield
        except BaseException:
            self._content, self.outbox, self.outbox_since = before
            raise

    def apply(self, left: Sequence[ActionState], put: Sequence[ActionState], head: Head) -> None:
        """Within a transaction: `left`, which are in the file, leave it, `put` enter it, and it stands at `head`.

        A place that one empties may be filled again by the other.
        """
        filled = {action.place for action in put}
        delete_actions(self._connection, (action for action in left if action.place not in filled))
        write_actions(self._connection, put)
        self._content = self._content.without_actions(left).with_actions(put)
        self.set_position(head)

    def fold(self, observer: Observer, *, anew: bool) -> StoredFold:
        """Within a transaction, which ends with `folded`: fold a stream `anew`, or go on from what is known."""
        if anew:
            self._connection.execute("DELETE FROM actions")
        return StoredFold(self._connection, self.actions_at, observer)

    def folded(self, head: Head, index: MakeIndex[Index]) -> Index:
        """Within a transaction: what was folded, up to `head`, is what is known; `index` as for `load`.

        What was missed or marked is void.
        """
        unindex_keys(self._connection)
        self._connection.execute("DELETE FROM missed")
        self._connection.execute("DELETE FROM refresh")
        digests = Digests(self._connection, committed=False)
        indexed = index(self._once_sent(digests), set())
        self._content = digests.found
        self.set_position(head)
        return indexed

    def set_position(self, head: Head) -> None:
        """Within a transaction: what is known is the fold of a stream with this head."""
        write_position(self._connection, head, self._content, self.outbox)

    def keep(self, rows: Sequence[OutboxRow]) -> None:
        """Within a transaction, before the position is set: have these events wait behind the others."""
        self.outbox = self.outbox.with_rows(write_rows(self._connection, rows))
        self.outbox_since = self._first_seen_at()

    def take_out(self, rows: Sequence[OutboxRow]) -> None:
        """Within a transaction, before the position is set: these, the first that wait, are in the stream."""
        if rows:
            self.outbox = self.outbox.without_rows(list(map(columns_of, rows)))
            delete_to(self._connection, rows[-1].id)
            self.outbox_since = self._first_seen_at()

    def drop_outbox(self) -> tuple[int, set[bytes]]:
        """Within a transaction, before the position is set: nothing waits any more. Returns what `states_in` does."""
        states = states_in(self._connection)
        self._connection.execute("DELETE FROM outbox")
        self.outbox, self.outbox_since = OutboxSum(), None
        return states

    def unmark(self, places: Iterable[int]) -> None:
        """Within a transaction: what the stream says of these actions it now says in a new entry."""
        self._connection.executemany("DELETE FROM refresh WHERE cat_idx = ? AND rec_idx = ?", map(unpack_place, places))

    def set_missed(self, places: Iterable[int]) -> None:
        """Remember which places the last complete reading missed without being believed."""
        with self.transaction():
            self._connection.execute("DELETE FROM missed")
            self._connection.executemany("INSERT INTO missed VALUES (?, ?)", map(unpack_place, places))

    def poll_status(self) -> PollStatus | None:
        """The status that the last poll left, for its counters."""
        with translated(self.path, "read"):
            return status_in(self._connection)

    def save_poll_status(self, status: PollStatus) -> None:
        """Replace the status, in a transaction of its own."""
        marks = ", ".join("?" * len(_STATUS_COLUMNS))
        with translated(self.path, "write"):
            self._connection.execute(
                f"INSERT OR REPLACE INTO poll_status (id, {', '.join(_STATUS_COLUMNS)}) VALUES (1, {marks})",
                msgspec.structs.astuple(status),
            )

    def _fit_log(self) -> None:
        """Where room is short, keep the log short: what is in it takes room there and in the file."""
        try:
            is_tight = free_bytes(self.path) < TIGHT_BYTES
        except OSError:  # it was removed, and `is_current` tells
            return
        if is_tight != self._is_tight:
            pages = _CHECKPOINT_PAGES_IF_TIGHT if is_tight else _CHECKPOINT_PAGES
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            self._is_tight = is_tight

    def _once_sent(self, digests: Digests) -> Iterator[PlacesAndDigests]:
        """What is live once the outbox is sent."""
        return changed_over(self._connection, iter(digests)) if self.outbox.events else iter(digests)

    def _first_seen_at(self) -> int | None:
        first = read_rows(self._connection, 0, 1)
        return first[0].seen_at if first else None

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _stat(self) -> tuple[int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino


def _where_places(places: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """SQL conditions and their parameters that all of these packed places meet, and perhaps some between them."""
    ascending = sorted(places)
    begin = 0
    while begin < len(ascending):
        # One catalogue index a query: only so does SQLite use the primary key (a list of pairs is a scan).
        cat_idx, first = unpack_place(ascending[begin])
        end = bisect_right(ascending, pack_place(cat_idx, INDEX_MAX), begin)
        end = min(end, begin + _PLACES_PER_QUERY)
        rec_idxs = [place & INDEX_MAX for place in ascending[begin:end]]
        if rec_idxs[-1] - first < 2 * len(rec_idxs):
            yield "cat_idx = ? AND rec_idx BETWEEN ? AND ?", (cat_idx, first, rec_idxs[-1])
        else:
            rec_idxs += rec_idxs[-1:] * (-len(rec_idxs) % _PLACES_STEP)
            yield f"cat_idx = ? AND rec_idx IN ({', '.join('?' * len(rec_idxs))})", (cat_idx, *rec_idxs)
        begin = end


def open_state_file(path: Path) -> tuple[StateFile, str | None]:
    """Open the state file, setting a broken one aside; the second value says what was set aside, and where."""
    try:
        return StateFile(path), None
    except StateCorrupt as damage:
        told = set_aside(path, damage)
        return StateFile(path), str(told)
