"""Whether a server is a node of a cluster, by its answer to HELLO."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from hsm_shipper.stream.one_server import PartOfCluster, greet, greet_async

ALONE = [b"server", b"redis", b"mode", b"standalone", b"modules", []]
IN_CLUSTER = [b"server", b"redis", b"mode", b"cluster", b"modules", []]


class Connection:
    """What redis-py says to a server that answers HELLO so, and refuses `refused` before."""

    host, port = "h", 7000

    def __init__(self, answer: Any, refused: redis.RedisError | None = None) -> None:
        self._answer = answer
        self._refused = refused
        self.said: list[str] = []

    def on_connect(self) -> None:
        self.said.append("on_connect")
        if self._refused is not None:
            raise self._refused

    def send_command(self, *words: str) -> None:
        self.said.append(" ".join(words))

    def read_response(self) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class AsyncConnection:
    """The same for asyncio."""

    host, port = "h", 7000

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def on_connect(self) -> None:
        self._connection.on_connect()

    async def send_command(self, *words: str) -> None:
        self._connection.send_command(*words)

    async def read_response(self) -> Any:
        return self._connection.read_response()


def both(answer: Any, refused: redis.RedisError | None = None) -> set[str]:
    """The errors that the two kinds of connections raise, in words; '' for none."""
    told = set()
    for kind in ("blocking", "asyncio"):
        connection = Connection(answer, refused)
        try:
            greet(connection) if kind == "blocking" else asyncio.run(greet_async(AsyncConnection(connection)))
        except redis.RedisError as error:
            told.add(f"{type(error).__name__} {getattr(error, 'hint', error)}")
        else:
            told.add("")
        assert connection.said[0] == "on_connect"
    return told


@pytest.mark.parametrize(
    "answer",
    [ALONE, dict(zip(ALONE[::2], ALONE[1::2], strict=True)), redis.ResponseError("unknown command"), [], [b"odd"]],
)
def test_others_are_taken_as_they_are(answer: Any) -> None:
    assert both(answer) == {""}


@pytest.mark.parametrize("answer", [IN_CLUSTER, {"mode": "cluster"}, {b"mode": b"cluster"}])
@pytest.mark.parametrize("refused", [None, redis.ResponseError("SELECT is not allowed in cluster mode")])
def test_a_node_of_a_cluster_is_refused(answer: Any, refused: redis.RedisError | None) -> None:
    """Also where another database than 0 was asked for, which it has not."""
    hint = "name the cluster: redis_url: redis+cluster://h:7000, with more of its nodes behind commas"
    assert both(answer, refused) == {f"PartOfCluster {hint}"}


def test_what_another_server_refuses_is_raised() -> None:
    assert both(ALONE, redis.ResponseError("DB index is out of range")) == {"ResponseError DB index is out of range"}


def test_a_greeting_of_ones_own_is_said() -> None:
    greeted: list[object] = []
    connection = Connection(IN_CLUSTER)
    with pytest.raises(PartOfCluster):
        greet(connection, greeted.append)
    with pytest.raises(PartOfCluster):
        asyncio.run(greet_async(AsyncConnection(connection), greeted.append))

    async def greeting(connection: object) -> None:
        greeted.append(connection)

    with pytest.raises(PartOfCluster):
        asyncio.run(greet_async(AsyncConnection(connection), greeting))
    assert len(greeted) == 3 and "on_connect" not in connection.said
