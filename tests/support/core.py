"""What the tests of the core share: the kernel's lines, and one MDT with its file, state file and stream."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from hashlib import md5
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.action_state import ActionState
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.kernel_line import pack_place, parse_line, unpack_place
from hsm_shipper.lustre.actions_file import ActionsFile
from hsm_shipper.lustre.kernel_file import KernelFile, RawFile, open_raw
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.stream.connection import client_kwargs
from hsm_shipper.stream.stream import ActionStream
from hsm_shipper.worker.changes import ChangeWriter
from hsm_shipper.worker.outbox import USUAL_BOUND, OutboxBound
from hsm_shipper.worker.poll_result import PollResult
from hsm_shipper.worker.poller import Poller
from hsm_shipper.worker.stream_replica import StreamReplica
from tests.simulator import Record
from tests.support.servers import RedisServer
from tests.support.truth import entries_of, judge_stream

FIXTURES = Path(__file__).parents[1] / "fixtures" / "actions"
MDT = "elm-MDT0000"
KEY = f"hsm:actions:{MDT}"
HOST = "mds1"


def line(
    rec: int = 1,
    status: str = "WAITING",
    *,
    cat: int = 1,
    fid: str | None = None,
    action: str = "ARCHIVE",
    cookie: int | None = None,
    archive_id: int = 1,
) -> bytes:
    """The kernel's line of a record; FID and cookie follow from `rec` unless they are given."""
    fid = fid or f"0x200000401:{rec:#x}:0x0"
    cookie = 0x6B020000 + rec if cookie is None else cookie
    return Record(cat, rec, fid, fid, cookie, 0, action, archive_id, 0, b"", status, 0.0).line


def lines(recs: Iterable[int], status: str = "WAITING") -> list[bytes]:
    """A line for each of `recs`."""
    return [line(rec, status) for rec in recs]


def digest(data: bytes) -> bytes:
    """MD5 of a line."""
    return md5(data, usedforsecurity=False).digest()


def place(rec: int, cat: int = 1) -> int:
    """The packed place of `line(rec, cat=cat)`."""
    return pack_place(cat, rec)


def by_place(listing: Iterable[bytes]) -> dict[int, bytes]:
    """The MD5 of every line that is understood, by its packed place."""
    return {record.place: digest(data) for data in listing if (record := parse_line(data)) is not None}


def live_action(data: bytes, **changes: Any) -> ActionState:
    """What is known of the action that `data` shows, first seen at 100 and in its status since 200."""
    record = parse_line(data)
    assert record is not None
    fields: dict[str, Any] = {
        "place": record.place,
        "fid": record.fid,
        "action": record.action,
        "status": record.status,
        "cookie": record.cookie,
        "digest": digest(data),
        "first_seen": 100,
        "status_since": 200,
    }
    archive_id = changes.pop("archive_id", None)
    action = ActionState.make(**(fields | changes))
    action.archive_id = archive_id
    return action


class Wire:
    """What goes wrong between client and server: while it is down, and once each the rest."""

    def __init__(self) -> None:
        self.down = False
        """Nothing gets through."""
        self.lose_reply = False
        """The server does what it was asked by the next append, and its reply is lost."""
        self.fail_sending: str | None = None
        """The connection breaks before this command is sent."""
        self.append_takes_s = 0.0
        """How much longer the server takes for an append that has something to add."""
        self.sent: list[str] = []
        """Every command so far."""
        self.before_append: Callable[[], object] | None = None
        """Called before the next append that has something to add is sent."""


# Of the script: the command, the script, the number of keys, the key and what the stream is expected to be (six).
_ARGUMENTS_TO_COMPARE = 10

_Connection: Any = redis.Connection  # redis-py's connections are but half typed


class FaultyConnection(_Connection):  # type: ignore[misc]
    """A connection over a `Wire`."""

    def __init__(self, *, wire: Wire, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._wire = wire
        self._appends = False

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Send, unless the wire breaks."""
        self._wire.sent.append(args[0])
        if self._wire.down or args[0] == self._wire.fail_sending:
            self._wire.fail_sending = None
            self.disconnect()
            raise redis.ConnectionError("injected: broken before it was sent")
        self._appends = args[0] in ("EVALSHA", "EVAL") and len(args) > _ARGUMENTS_TO_COMPARE
        if self._appends and self._wire.before_append is not None:
            act, self._wire.before_append = self._wire.before_append, None
            act()
        super().send_command(*args, **kwargs)

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Read, unless the reply is lost."""
        if self._appends:
            time.sleep(self._wire.append_takes_s)
        reply = super().read_response(*args, **kwargs)
        if self._appends and self._wire.lose_reply:
            self._wire.lose_reply = False
            self.disconnect()
            raise redis.ConnectionError("injected: the reply was lost")
        return reply


def shipper_client(server: RedisServer, db: int, wire: Wire | None = None, **kwargs: Any) -> redis.Redis:
    """A client with the settings of the project's own, over a wire that may fail."""
    settings = client_kwargs(Config(redis_host=server.host, redis_port=server.port, redis_db=db)) | kwargs
    pool = redis.ConnectionPool(connection_class=FaultyConnection, wire=wire or Wire(), **settings)
    return redis.Redis(connection_pool=pool)


class FaultyFile(KernelFile):
    """The actions file; with `error`, that comes behind so many bytes or in place of the end of the file."""

    def __init__(self, path: Path, after_bytes: int = sys.maxsize, error: int | None = None) -> None:
        super().__init__(path)
        self._left = after_bytes
        self._error = error

    def read(self, size: int, /) -> bytes:
        """Some of the file, then the error."""
        chunk = super().read(min(size, self._left))
        if not chunk and self._error is not None:
            raise OSError(self._error, os.strerror(self._error))
        self._left -= len(chunk)
        return chunk


class Opener:
    """Opens the actions file, or what a test puts in its place for the next reading."""

    def __init__(self) -> None:
        self.next: Callable[[Path], RawFile] | None = None

    def __call__(self, path: Path) -> RawFile:
        opener, self.next = self.next or open_raw, None
        return opener(path)

    def fail_after(self, after_bytes: int, error: int) -> None:
        """The next reading ends so."""
        self.next = lambda path: FaultyFile(path, after_bytes, error)


class FullDisk:
    """A file system for SQLite files that can be filled up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._room: int | None = None
        self._connections: list[sqlite3.Connection] = []
        connect = sqlite3.connect

        def limited(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)
            self._connections.append(connection)
            self._limit(connection)
            return connection

        monkeypatch.setattr(sqlite3, "connect", limited)

    def fill(self) -> None:
        """No file gets any bigger."""
        self._room = 1
        self._limit_all()

    def make_room(self) -> None:
        """Files may grow again."""
        self._room = 1_000_000
        self._limit_all()

    def _limit_all(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
                self._limit(connection)

    def _limit(self, connection: sqlite3.Connection) -> None:
        if self._room is not None:  # SQLite takes the size of the file if that is more
            connection.execute(f"PRAGMA max_page_count = {self._room}")


class OneMdt:
    """One MDT and the real loop that polls it: actions file and state file in a folder, its stream on a server."""

    def __init__(
        self,
        folder: Path,
        client: redis.Redis,
        *,
        host: str = HOST,
        include_raw: bool = True,
        opener: Callable[[Path], RawFile] = open_raw,
        hold: bool = False,
        actions: Path | None = None,
        stream_class: type[ActionStream] = ActionStream,
        bound: OutboxBound = USUAL_BOUND,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.actions = actions or folder / "actions"
        self.state = folder / f"{MDT}.sqlite3"
        self.client = client
        self.host = host
        self.hsm_control: str | None = "enabled"
        self.stream = stream_class(client, KEY, "redis://test")
        self.replica = StreamReplica(self.state, self.stream, host, bound)
        self.actions_file = ActionsFile(self.actions, opener, hold=hold)
        self._writer = ChangeWriter(MDT, host, include_raw)
        self.poller = self._new_poller()
        self._told = "-"

    def restart(self) -> None:
        """Go on as another process does: with what is in the state file and the stream."""
        self.replica.close()
        self.poller = self._new_poller()

    def _new_poller(self) -> Poller:
        return Poller(self.actions_file, self.replica, self._writer, lambda: self.hsm_control)

    def shows(self, *listing: bytes) -> None:
        """The kernel's listing from now on."""
        self.actions.write_bytes(b"".join(data + b"\n" for data in listing))

    def poll(self, *listing: bytes) -> PollResult:
        """Show `listing`, poll once, and fail if the poll did."""
        self.shows(*listing)
        result = self.poller.poll()
        assert result.error is None, result.error
        return result

    def events(self) -> list[dict[str, Any]]:
        """The objects of the entries that were added since the last call."""
        found = entries_of(self.client, KEY, self._told if self._told == "-" else f"({self._told}")
        if found:
            self._told = found[-1][0]
        return [msgspec.json.decode(data) for _, data in found if data is not None]

    def told(self) -> list[str]:
        """What was added to the stream since the last call, in words: `NEW 1/2 WAITING`, `PURGED 1/2 SUCCEED`."""
        return [
            f"{event['event_type']} {event['cat_idx']}/{event['rec_idx']} {event.get('last_status', event['status'])}"
            for event in self.events()
        ]

    def forget_told(self) -> None:
        """Look at the stream from its beginning again."""
        self._told = "-"

    def known_rows(self) -> list[tuple[object, ...]]:
        """What the state file says is live."""
        return known_rows(self.state)

    def check(self, *listing: bytes) -> None:
        """Stream and state file say exactly what `listing` does, and the stream never said anything else."""
        verdict = judge_stream(self.client, KEY)
        assert verdict.complaints == []
        assert {action.place: action.digest for action in verdict.live} == by_place(listing)
        assert self.known_rows() == rows(verdict.live)


def known_rows(state_file: Path) -> list[tuple[object, ...]]:
    """What a state file says is live."""
    cache = StateFile(state_file)
    try:
        return rows(cache.live_actions())
    finally:
        cache.close()


def rows(live: ActionFold) -> list[tuple[object, ...]]:
    """Live actions in a form to compare, with the entries that hold them."""
    return sorted(map(msgspec.structs.astuple, live))


def add(client: redis.Redis, *events: dict[str, Any] | bytes, key: str = KEY) -> list[str]:
    """Append entries as another program would."""
    ids = []
    for event in events:
        data = event if isinstance(event, bytes) else msgspec.json.encode(event)
        entry_id: Any = client.xadd(key, {"data": data})
        ids.append(entry_id.decode())
    return ids


def earlier_event(data: bytes, kind: str = "NEW", timestamp: int = 1_759_401_125, **changes: Any) -> dict[str, Any]:
    """The object of a NEW or UPDATE as earlier shippers wrote it: with `raw`, without our extra keys."""
    record = parse_line(data)
    assert record is not None
    cat, rec = unpack_place(record.place)
    event = {"event_type": kind, "mdt": MDT, "cat_idx": cat, "rec_idx": rec, "fid": record.fid}
    event |= {"action": record.action, "status": record.status, "timestamp": timestamp, "raw": data.decode()}
    return event | {"action_key": record.action_key} | changes
