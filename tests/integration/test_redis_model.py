"""The model of Redis that the simulation runs on gives the answers that a real server gives."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from hsm_shipper.contract.stream_head import Head
from hsm_shipper.contract.stream_ids import next_id
from hsm_shipper.errors import StreamMoved, StreamRefused
from hsm_shipper.stream.stream import ActionStream
from tests.faults.model.redis_model import RedisModel, Wire, model_client
from tests.support.servers import RedisServer

KEY = "hsm:actions:elm-MDT0000"
_TOLD_OF_STREAM = (
    "length", "last-generated-id", "max-deleted-entry-id", "entries-added", "groups", "first-entry", "last-entry",
)  # fmt: skip
_TOLD_OF_GROUP = ("name", "pending", "last-delivered-id")


class _Pair:
    """The same commands to both, and the same answers from both."""

    def __init__(self, server: redis.Redis) -> None:
        tells_deleted = tuple(map(int, str(server.info("server")["redis_version"]).split("."))) >= (7,)
        model = RedisModel(lambda: 1.0, tells_deleted=tells_deleted)
        self.clients = (server, model_client(Wire(model)))
        self.streams = [ActionStream(client, KEY, "here") for client in self.clients]

    def same(self, *words: Any) -> Any:
        """The answer to a command, or the words of the error."""
        answers = [self._answer(client, words) for client in self.clients]
        assert answers[0] == answers[1], words
        return answers[0]

    def _answer(self, client: redis.Redis, words: tuple[Any, ...]) -> Any:
        try:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            return type(error)

    def compare(self, expected: Head) -> None:
        """What the script finds where it is to add nothing."""
        found = []
        for stream in self.streams:
            pending = stream.start_append(expected, [])
            with contextlib.suppress(StreamMoved):
                pending.finish()
            found.append((pending.found, stream.head()))
        assert found[0] == found[1]

    def look(self) -> None:
        """Everything that is there."""
        infos = []
        for client in self.clients:
            told = client.xinfo_stream(KEY) if client.exists(KEY) else {}
            infos.append({name: told.get(name) for name in _TOLD_OF_STREAM})
        assert infos[0] == infos[1]
        self.same("XRANGE", KEY, "-", "+")
        if self.clients[0].exists(KEY):
            groups = [client.xinfo_groups(KEY) for client in self.clients]
            told_of = [[{name: group[name] for name in _TOLD_OF_GROUP} for group in found] for found in groups]
            assert told_of[0] == told_of[1]
        assert self.streams[0].groups() == self.streams[1].groups()


def _step(pair: _Pair, rng: random.Random, ids: list[str]) -> None:
    """One command of those that may come, with arguments that mostly fit."""
    some = rng.choice([*ids, "0-1", "5000-0"])
    ahead = f"{int((ids or ['1000-0'])[-1].split('-')[0]) + rng.randint(0, 2)}-{rng.randint(0, 3)}"
    command = rng.choice((
        ("XADD", KEY, ahead, "data", f"v{rng.random()}"), ("XADD", KEY, ahead, "data", "v", "other", "w"),
        ("XADD", KEY, some, "data", "v"),
        ("XDEL", KEY, some, rng.choice([*ids, "7-7"])), ("XDEL", KEY, some),
        ("XTRIM", KEY, "MAXLEN", "=", rng.randint(0, 12)), ("XTRIM", KEY, "MINID", "=", some),
        ("XLEN", KEY), ("EXISTS", KEY), ("DEL", KEY) if rng.random() < 0.1 else ("XLEN", KEY),
        ("XRANGE", KEY, some, "+", "COUNT", 3), ("XRANGE", KEY, "-", some),
        ("XGROUP", "CREATE", KEY, "g", rng.choice([some, "0-0", "$"])), ("XGROUP", "DESTROY", KEY, "g"),
        ("SET", KEY, "x") if rng.random() < 0.05 else ("EXISTS", KEY),
    ))  # fmt: skip
    pair.same(*command)
    if rng.random() < 0.05:  # servers differ in what they refuse of lower ones
        pair.same("XSETID", KEY, next_id(pair.streams[0].head().last_id))


def _trim(pair: _Pair, rng: random.Random, ids: list[str]) -> None:
    end, folded = rng.choice([*ids, "0-1"]), rng.choice([*ids, "0-1", "9999-0"])
    removed = [stream.trim(end, folded) for stream in pair.streams]
    assert removed[0] == removed[1]


def _read_group(pair: _Pair, rng: random.Random) -> None:
    groups = pair.clients[0].xinfo_groups(KEY)
    if groups:
        pair.same("XREADGROUP", "GROUP", "g", "c", "COUNT", rng.randint(1, 4), "STREAMS", KEY, ">")
        pending = [entry["message_id"] for entry in pair.clients[0].xpending_range(KEY, "g", "-", "+", 10)]
        if pending:
            pair.same("XACK", KEY, "g", rng.choice(pending))


def test_the_same_commands_have_the_same_answers(redis_server: RedisServer, redis_db: int) -> None:
    with redis_server.client(redis_db) as server:
        pair = _Pair(server)
        rng = random.Random(5)
        old = pair.streams[0].head()
        for _ in range(400):
            if server.type(KEY) == b"string":
                pair.same("DEL", KEY)
            ids = [entry_id.decode() for entry_id, _ in server.execute_command("XRANGE", KEY, "-", "+")]
            what = rng.random()
            if what < 0.75:
                _step(pair, rng, ids)
            elif what < 0.8:
                _trim(pair, rng, ids)
            elif server.exists(KEY) and server.type(KEY) == b"stream":
                _read_group(pair, rng)
            if server.type(KEY) != b"string":
                old = rng.choice([old, pair.streams[0].head()])
                pair.compare(old)
                pair.look()


def test_an_append_adds_to_both_what_it_adds(redis_server: RedisServer, redis_db: int) -> None:
    with redis_server.client(redis_db) as server:
        pair = _Pair(server)
        for payloads in ([b"a"], [b"b", b"c"], []):
            for stream in pair.streams:
                stream.start_append(stream.head(), payloads).finish()
        contents = [[fields for _, fields in client.xrange(KEY) or ()] for client in pair.clients]
        assert contents[0] == contents[1] == [{b"data": b"a"}, {b"data": b"b"}, {b"data": b"c"}]
        for stream in pair.streams:
            before = stream.head()
            pending = stream.start_append(Head("0-0", None, None), [b"d"])
            with pytest.raises(StreamMoved):
                pending.finish()
            assert pending.found == before == stream.head()


def test_both_refuse_alike(private_server: Callable[..., RedisServer]) -> None:
    server = private_server()
    model = RedisModel(lambda: 1.0)
    with server.client() as client, model_client(Wire(model)) as modelled:
        streams = [ActionStream(other, KEY, "here") for other in (client, modelled)]
        client.config_set("maxmemory", "1")
        model.refuses = "OOM"
        for stream in streams:
            head = stream.head()  # comparing needs no memory
            assert head.last_id == "0-0"
            with pytest.raises(StreamRefused, match="maxmemory"):
                stream.start_append(head, [b"a"]).finish()
            assert stream.head() == head
        client.config_set("maxmemory", "0")
        client.replicaof("127.0.0.1", "1")
        model.refuses = "READONLY"
        for stream in streams:
            with pytest.raises(StreamRefused, match="read only replica"):
                stream.head()
