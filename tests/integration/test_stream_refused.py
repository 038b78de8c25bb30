"""Servers that refuse an append, or do not answer: what is raised, and what the operator is told to do."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from hsm_shipper.commands.check_redis import redis_findings
from hsm_shipper.config import Config
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.contract.stream_ids import EMPTY_ID
from hsm_shipper.errors import StreamRefused, StreamUnavailable
from hsm_shipper.stream.stream import ActionStream
from tests.conftest import PrivateServer
from tests.support.core import KEY, shipper_client
from tests.support.servers import RedisServer
from tests.support.truth import entries_of

EMPTY = Head(EMPTY_ID, None, None)


def stream_of(client: redis.Redis) -> ActionStream:
    """The stream under test."""
    return ActionStream(client, KEY, "redis://test")


def append(stream: ActionStream, head: Head, *payloads: bytes) -> Head:
    """Append, and wait for the reply."""
    return stream.start_append(head, payloads).finish()


def advice(client: redis.Redis) -> str:
    """What the operator is told where an append is refused."""
    with pytest.raises(StreamRefused) as refused:
        append(stream_of(client), EMPTY, b"a")
    return refused.value.hint


def test_a_key_of_another_type_is_said_to_be_no_stream(redis_server: RedisServer, redis_db: int) -> None:
    client = shipper_client(redis_server, redis_db)
    client.set(KEY, "x")
    assert "is no stream" in advice(client)


def test_a_server_at_its_maxmemory_is_said_to_be_full(private_server: PrivateServer) -> None:
    server = private_server(maxmemory="1kb", maxmemory_policy="noeviction")
    client = shipper_client(server, 0)
    assert "maxmemory" in advice(client)
    assert not client.exists(KEY)


def test_a_replica_is_said_to_be_read_only(private_server: PrivateServer) -> None:
    server = private_server(replicaof="127.0.0.1 1")
    assert "connect to the primary" in advice(shipper_client(server, 0))


def test_a_user_without_permission_is_told_what_to_allow(private_server: PrivateServer) -> None:
    server = private_server()
    server.client().acl_setuser("mds1", enabled=True, nopass=True, categories=["+@all"], keys=["other*"])
    client = shipper_client(server, 0, username="mds1", password="x")
    assert "allow this Redis user" in advice(client)


def test_a_server_that_wants_a_password_says_which_keys_to_set(private_server: PrivateServer) -> None:
    server = private_server(requirepass="secret")
    assert "redis_password_file" in advice(shipper_client(server, 0))
    wrong = shipper_client(server, 0, password="wrong")
    assert "redis_password_file" in advice(wrong)


def test_after_a_read_only_answer_the_next_command_takes_another_connection(private_server: PrivateServer) -> None:
    client = shipper_client(private_server(replicaof="127.0.0.1 1"), 0)
    before = client.client_id()
    advice(client)
    assert client.client_id() != before


def idle_connections(client: redis.Redis) -> list[Any]:
    """Two connections that the client keeps for later."""
    idle = [client.connection_pool.get_connection() for _ in range(2)]
    for connection in idle:
        client.connection_pool.release(connection)
    return idle


def test_a_replica_without_its_primary_is_left_as_well(private_server: PrivateServer) -> None:
    server = private_server(replica_serve_stale_data="no")
    server.client().replicaof("127.0.0.1", "1")
    client = shipper_client(server, 0)
    idle = idle_connections(client)
    with pytest.raises(StreamUnavailable, match="MASTER"):
        stream_of(client).length()
    assert [connection.is_connected for connection in idle] == [False, False]


def test_after_any_refusal_no_connection_is_kept(redis_server: RedisServer, redis_db: int) -> None:
    """A script's READONLY is a plain error from Redis 6.2."""
    client = shipper_client(redis_server, redis_db)
    client.set(KEY, "no stream")
    idle = idle_connections(client)
    with pytest.raises(StreamRefused):
        stream_of(client).head()
    assert [connection.is_connected for connection in idle] == [False, False]


def test_a_database_that_the_server_does_not_have_is_said_to_be_that(redis_server: RedisServer) -> None:
    assert "fewer databases" in advice(shipper_client(redis_server, 99))
    [finding] = redis_findings(Config(redis_url=f"{redis_server.url}/99"), None)
    assert "fewer databases" in finding.advice


def test_a_server_that_is_gone_is_unavailable(private_server: PrivateServer) -> None:
    server = private_server()
    stream = stream_of(shipper_client(server, 0))
    head = append(stream, EMPTY, b"a")
    server.kill()
    for _ in range(2):
        with pytest.raises(StreamUnavailable):
            append(stream, head, b"c")
    with pytest.raises(StreamUnavailable):
        stream.head()


def test_a_server_that_hangs_is_unavailable_after_the_timeout(private_server: PrivateServer) -> None:
    server = private_server()
    stream = stream_of(shipper_client(server, 0, socket_timeout=0.3))
    head = append(stream, EMPTY, b"a")
    server.pause()
    begun_s = time.monotonic()
    with pytest.raises(StreamUnavailable):
        append(stream, head, b"b")
    assert time.monotonic() - begun_s > 0.25
    server.resume()
    assert stream.head().last_id == entries_of(server.client(), KEY)[-1][0]
