"""A model of the few commands that the shipper sends to Redis, in this process: a server that costs no time.

`tests/integration/test_redis_model.py` gives the same commands to it and to a real server.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError
from redis.retry import Retry

from hsm_shipper.contract.stream_head import entry_sha1
from hsm_shipper.contract.stream_ids import pack_id, unpack_id

_WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class Group:
    """A consumer group."""

    def __init__(self, last_delivered: int, pending: Sequence[int] = ()) -> None:
        self.last_delivered = last_delivered
        self.pending = list(pending)


class Stream:
    """One stream; ids are packed."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.fields: list[list[bytes]] = []
        self.last = 0
        self.max_deleted = 0
        self.added = 0
        self.groups: dict[bytes, Group] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def copy(self) -> Stream:
        """The same of its own; entries never change."""
        other = Stream()
        other.ids, other.fields = list(self.ids), list(self.fields)
        other.last, other.max_deleted, other.added = self.last, self.max_deleted, self.added
        other.groups = {name: Group(group.last_delivered, group.pending) for name, group in self.groups.items()}
        return other

    def drop_first(self, count: int) -> int:
        """XTRIM."""
        del self.ids[:count], self.fields[:count]
        return count


class RedisModel:
    """One server. `refuses` is what it answers to writes that need memory ("OOM") or to all writes ("READONLY")."""

    def __init__(self, now: Callable[[], float], *, tells_deleted: bool = True) -> None:
        """`now` is its clock; without `tells_deleted` it is one before Redis 7.0."""
        self._now = now
        self.tells_deleted = tells_deleted
        self.streams: dict[bytes, Stream] = {}
        self.strings: set[bytes] = set()
        """Keys that hold something else than a stream."""
        self.scripts: set[bytes] = set()
        self.refuses: str | None = None
        self.on_added: Callable[[bytes, int, list[bytes]], None] = lambda _key, _id, _fields: None
        """Told of every entry as it is added."""

    def state(self) -> dict[bytes, Stream]:
        """What a persistent file would hold, to be given back as `streams`."""
        return {key: stream.copy() for key, stream in self.streams.items()}

    def execute(self, *words: Any) -> Any:
        """The reply to a command, as it is on the wire; an error is an exception, returned."""
        name, *args = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = name.upper().split()
        if parts[0] in (b"XINFO", b"XGROUP") and len(parts) == 1:
            parts.append(args.pop(0).upper())
        try:
            return getattr(self, "_" + b"_".join(parts).decode().lower())(*args)
        except redis.RedisError as error:
            return error

    # -- what each command does

    def _ping(self) -> bytes:
        return b"PONG"

    def _exists(self, key: bytes) -> int:
        return int(key in self.streams or key in self.strings)

    def _del(self, key: bytes) -> int:
        self._check_writable()
        found = self._exists(key)
        self.streams.pop(key, None)
        self.strings.discard(key)
        return found

    def _set(self, key: bytes, _value: bytes) -> bytes:
        self._check_writable(grows=True)
        self.streams.pop(key, None)
        self.strings.add(key)
        return b"OK"

    def _flushdb(self) -> bytes:
        self._check_writable()
        self.streams.clear()
        self.strings.clear()
        return b"OK"

    def _xlen(self, key: bytes) -> int:
        return len(self._stream(key) or ())

    def _xadd(self, key: bytes, entry_id: bytes, *fields: bytes) -> bytes:
        self._check_writable(grows=True)
        stream = self._stream(key)
        if stream is None:
            stream = Stream()
        if entry_id == b"*":
            packed = max(round(self._now() * 1000) << 64, stream.last + 1)
        else:
            packed = pack_id(entry_id)
            if packed <= stream.last:
                raise redis.ResponseError(
                    "The ID specified in XADD is equal or smaller than the target stream top item"
                )
        self.streams[key] = stream
        stream.ids.append(packed)
        stream.fields.append(list(fields))
        stream.last = packed
        stream.added += 1
        self.on_added(key, packed, list(fields))
        return _text(packed)

    def _xdel(self, key: bytes, *entry_ids: bytes) -> int:
        self._check_writable()
        stream = self._stream(key)
        deleted = 0
        for packed in map(pack_id, entry_ids):
            at = -1 if stream is None else bisect_left(stream.ids, packed)
            if stream is not None and at < len(stream) and stream.ids[at] == packed:
                del stream.ids[at], stream.fields[at]
                stream.max_deleted = max(stream.max_deleted, packed)
                deleted += 1
        return deleted

    def _xtrim(self, key: bytes, how: bytes, *bound: bytes) -> int:
        self._check_writable()
        stream = self._stream(key)
        if stream is None:
            return 0
        if how == b"MAXLEN":
            return stream.drop_first(max(0, len(stream) - int(bound[-1])))
        return stream.drop_first(bisect_left(stream.ids, pack_id(bound[-1])))

    def _xsetid(self, key: bytes, entry_id: bytes) -> bytes:
        self._check_writable()
        stream = self._stream(key)
        if stream is None:
            raise redis.ResponseError("no such key")
        packed = pack_id(entry_id)
        if stream.ids and packed < stream.ids[-1]:
            raise redis.ResponseError("The ID specified in XSETID is smaller than the target stream top item")
        if packed < stream.max_deleted:
            raise redis.ResponseError("The ID specified in XSETID is smaller than current max_deleted_entry_id")
        stream.last = packed
        return b"OK"

    def _xrange(self, key: bytes, start: bytes, end: bytes, *count: bytes) -> list[Any]:
        stream = self._stream(key)
        if stream is None:
            return []
        first = 0 if start == b"-" else bisect_left(stream.ids, pack_id(start))
        behind = len(stream) if end == b"+" else bisect_right(stream.ids, pack_id(end))
        if count:
            behind = min(behind, first + int(count[1]))
        return [_entry(stream, at) for at in range(first, behind)]

    def _xinfo_stream(self, key: bytes) -> list[Any]:
        stream = self._stream(key)
        if stream is None:
            raise redis.ResponseError("no such key")
        told = [b"length", len(stream), b"last-generated-id", _text(stream.last)]
        if self.tells_deleted:
            told += [b"max-deleted-entry-id", _text(stream.max_deleted), b"entries-added", stream.added]
        ends = [_entry(stream, 0), _entry(stream, -1)] if stream.ids else [None, None]
        return [*told, b"groups", len(stream.groups), b"first-entry", ends[0], b"last-entry", ends[1]]

    def _xgroup_create(self, key: bytes, name: bytes, entry_id: bytes) -> bytes:
        stream = self._stream(key)
        if stream is None:
            raise redis.ResponseError("The XGROUP subcommand requires the key to exist")
        if name in stream.groups:
            raise redis.ResponseError("BUSYGROUP Consumer Group name already exists")
        stream.groups[name] = Group(stream.last if entry_id == b"$" else pack_id(entry_id))
        return b"OK"

    def _xgroup_destroy(self, key: bytes, name: bytes) -> int:
        stream = self._stream(key)
        if stream is None:
            raise redis.ResponseError("The XGROUP subcommand requires the key to exist")
        return int(stream.groups.pop(name, None) is not None)

    def _xinfo_groups(self, key: bytes) -> list[Any]:
        stream = self._stream(key)
        if stream is None:
            raise redis.ResponseError("no such key")
        return [
            [b"name", name, b"consumers", 1, b"pending", len(group.pending), b"last-delivered-id",
             _text(group.last_delivered)]
            for name, group in sorted(stream.groups.items())
        ]  # fmt: skip

    def _xpending(self, key: bytes, name: bytes, start: bytes, end: bytes, count: bytes) -> list[Any]:
        stream = self._stream(key)
        if stream is None or name not in stream.groups:
            raise redis.ResponseError(f"NOGROUP No such key {key!r} or consumer group {name!r}")
        assert end == b"+"
        found = [packed for packed in stream.groups[name].pending if packed >= pack_id(start)]
        return [[_text(packed), b"c", 0, 1] for packed in found[: int(count)]]

    def _xreadgroup(self, *args: bytes) -> list[Any] | None:
        _, name, _, _, count, _, key, _ = args  # GROUP name consumer COUNT n STREAMS key >
        stream = self._stream(key)
        assert stream is not None
        group = stream.groups[name]
        first = bisect_right(stream.ids, group.last_delivered)
        given = range(first, min(len(stream), first + int(count)))
        if not given:
            return None
        group.pending += [stream.ids[at] for at in given]
        group.last_delivered = stream.ids[given[-1]]
        return [[key, [_entry(stream, at) for at in given]]]

    def _xack(self, key: bytes, name: bytes, *entry_ids: bytes) -> int:
        stream = self._stream(key)
        assert stream is not None
        group, acked = stream.groups[name], set(map(pack_id, entry_ids))
        before = len(group.pending)
        group.pending = [packed for packed in group.pending if packed not in acked]
        return before - len(group.pending)

    def _evalsha(self, script_sha: bytes, _keys: bytes, key: bytes, *args: bytes) -> Any:
        if script_sha not in self.scripts:
            raise NoScriptError("No matching script.")
        return _SCRIPTS[script_sha](self, key, args)

    def _eval(self, script: bytes, keys: bytes, key: bytes, *args: bytes) -> Any:
        script_sha = sha1(script, usedforsecurity=False).hexdigest().encode()
        self.scripts.add(script_sha)
        return self._evalsha(script_sha, keys, key, *args)

    # -- the shipper's scripts

    def append(self, key: bytes, args: Sequence[bytes]) -> list[Any]:
        """`compare_and_append.lua`."""
        last_id, newest_id, newest_sha1, first_id, length, deleted, *payloads = args
        if not payloads:
            self._xtrim(key, b"MAXLEN", b"9223372036854775807")
        stream = self._stream(key)
        found: list[Any] = [b"0-0", b"", b"", b"", 0, b""]
        if stream is not None:
            newest = entry_sha1(stream.fields[-1]).encode() if stream.ids else b""
            ends = [_text(stream.ids[-1]), newest, _text(stream.ids[0])] if stream.ids else [b"", b"", b""]
            max_deleted = _text(stream.max_deleted) if self.tells_deleted else b""
            found = [_text(stream.last), *ends, len(stream), max_deleted]
        moved = found[0] != last_id or (found[1] != b"" and found[1:3] != [newest_id, newest_sha1])
        gone = length != b"" and found[3] == first_id and found[4] != int(length)
        if moved or gone or (deleted != b"" and found[5] not in (b"", deleted)):
            return [0, *found, []]
        return [1, *found, [self._xadd(key, b"*", b"data", payload) for payload in payloads]]

    def trim(self, key: bytes, args: Sequence[bytes]) -> int:
        """`trim.lua`."""
        min_id, ms, seq = args
        stream = self._stream(key)
        if stream is None or stream.last < int(ms) << 64 | int(seq):
            return -1
        return self._xtrim(key, b"MINID", b"=", min_id)

    # -- what they share

    def _stream(self, key: bytes) -> Stream | None:
        if key in self.strings:
            raise redis.ResponseError(_WRONG_TYPE)
        return self.streams.get(key)

    def _check_writable(self, *, grows: bool = False) -> None:
        if self.refuses == "READONLY":
            raise ReadOnlyError("You can't write against a read only replica.")
        if self.refuses == "OOM" and grows:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")


def _sha(script: str) -> bytes:
    text = (files("hsm_shipper.stream") / script).read_bytes()
    return sha1(text, usedforsecurity=False).hexdigest().encode()


_SCRIPTS: dict[bytes, Callable[[RedisModel, bytes, Sequence[bytes]], Any]] = {
    _sha("compare_and_append.lua"): RedisModel.append,
    _sha("trim.lua"): RedisModel.trim,
}


def _text(packed: int) -> bytes:
    return unpack_id(packed).encode()


def _entry(stream: Stream, at: int) -> list[Any]:
    return [_text(stream.ids[at]), list(stream.fields[at])]


class Wire:
    """What lies between a process and the server: `gate` is asked around every command, and may raise."""

    def __init__(self, server: RedisModel) -> None:
        self.server = server
        self.gate: Callable[[str], None] = lambda _: None
        """Called with "send" before a command reaches the server, with "reply" before its answer is read."""


_Connection: Any = redis.Connection  # redis-py's connections are but half typed


class ModelConnection(_Connection):  # type: ignore[misc]
    """redis-py's connection, but for the socket: the rest of the client is the real one."""

    def __init__(self, *, wire: Wire, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._wire = wire
        self._replies: list[Any] = []

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to connect to: a server that is down shows at the first command."""

    connect_check_health = connect

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Answers that nobody read are lost."""
        self._replies = []

    def can_read(self, timeout: float = 0) -> bool:
        """Whether an answer waits."""
        return bool(self._replies)

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        """Have the server do it: it does not wait for anybody to read the answer."""
        self._wire.gate("send")
        self._replies.append(self._wire.server.execute(*args))

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """The next answer."""
        self._wire.gate("reply")
        if not self._replies:
            raise redis.ConnectionError("Connection closed by server.")
        reply = self._replies.pop(0)
        if isinstance(reply, redis.RedisError):
            raise reply
        return reply


def model_client(wire: Wire) -> redis.Redis:
    """A client over `wire`, that does not retry, as the project's own."""
    settings: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0), "driver_info": None}
    pool = redis.ConnectionPool(connection_class=ModelConnection, wire=wire, **settings)
    return redis.Redis(connection_pool=pool)
