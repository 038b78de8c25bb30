"""Compare-and-append against a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import redis

from hsm_shipper.contract.stream_head import Head
from hsm_shipper.errors import StreamMoved, StreamRefused, StreamUnavailable
from hsm_shipper.stream.compare_and_append import PendingAppend
from hsm_shipper.stream.stream import ActionStream
from tests.conftest import PrivateServer
from tests.support.core import KEY, Wire, shipper_client
from tests.support.servers import RedisServer
from tests.support.truth import entries_of

EMPTY = Head("0-0", None, None, None, 0)


def stream_of(client: redis.Redis) -> ActionStream:
    """The stream under test."""
    return ActionStream(client, KEY, "redis://test")


@pytest.fixture
def stream(client: redis.Redis) -> ActionStream:
    return stream_of(client)


def begin(stream: ActionStream, head: Head, *payloads: bytes) -> PendingAppend:
    """Send an append."""
    return stream.start_append(head, payloads)


def append(stream: ActionStream, head: Head, *payloads: bytes) -> Head:
    """Append, and wait for the reply."""
    return begin(stream, head, *payloads).finish()


def data(client: redis.Redis) -> list[bytes | None]:
    """What the entries of the stream say."""
    return [payload for _, payload in entries_of(client, KEY)]


# The head


def test_no_stream_ends_at_zero(stream: ActionStream) -> None:
    assert stream.head() == EMPTY


def test_the_head_is_the_last_generated_id_and_the_newest_entry(client: redis.Redis, stream: ActionStream) -> None:
    assert append(stream, EMPTY, b"a", b"b").end == stream.head().end
    newest = entries_of(client, KEY)[-1][0]
    assert (stream.head().last_id, stream.head().newest_id) == (newest, newest)
    client.xdel(KEY, newest)
    assert (stream.head().last_id, stream.head().newest_id) == (newest, entries_of(client, KEY)[0][0])


# Compare-and-append


def test_payloads_are_appended_in_order_one_entry_each(client: redis.Redis, stream: ActionStream) -> None:
    head = append(stream, EMPTY, b"a", b"b\0\xff", b"")
    append(stream, head, b"c")
    assert data(client) == [b"a", b"b\0\xff", b"", b"c"]
    assert client.xrange(KEY)[0][1] == {b"data": b"a"}  # type: ignore[index]


def test_nothing_is_appended_to_a_stream_that_is_elsewhere(client: redis.Redis, stream: ActionStream) -> None:
    stale = append(stream, EMPTY, b"a")
    append(stream, stale, b"b")
    with pytest.raises(StreamMoved):
        append(stream, stale, b"c")
    assert data(client) == [b"a", b"b"]


def foreign(client: redis.Redis, head: Head) -> None:
    client.xadd(KEY, {"data": "foreign"})


def newest_deleted(client: redis.Redis, head: Head) -> None:
    client.xdel(KEY, head.last_id)


def newest_replaced(client: redis.Redis, head: Head) -> None:
    client.delete(KEY)
    client.xadd(KEY, {"data": "a"}, id="1-0")
    client.xadd(KEY, {"data": "x"}, id=head.last_id)


def another_field(client: redis.Redis, head: Head) -> None:
    client.delete(KEY)
    client.xadd(KEY, {"date": "b"}, id=head.last_id)


def gone(client: redis.Redis, head: Head) -> None:
    client.delete(KEY)


def flushed(client: redis.Redis, head: Head) -> None:
    client.flushdb()


def rolled_back(client: redis.Redis, head: Head) -> None:
    client.delete(KEY)
    client.xadd(KEY, {"data": "a"}, id="1-0")


def entry_within_deleted(client: redis.Redis, head: Head) -> None:
    client.xdel(KEY, entries_of(client, KEY)[1][0])


def compare(stream: ActionStream, head: Head) -> None:
    stream.compare(head)


def append_new(stream: ActionStream, head: Head) -> None:
    append(stream, head, b"new")


BOTH = pytest.mark.parametrize("act", [compare, append_new], ids=["compare", "append"])


@pytest.mark.parametrize(
    "change",
    [foreign, newest_deleted, newest_replaced, another_field, gone, flushed, rolled_back, entry_within_deleted],
    ids=lambda change: change.__name__,
)
@BOTH
def test_a_stream_that_changed_without_us_is_noticed_and_left_alone(
    client: redis.Redis,
    stream: ActionStream,
    change: Callable[[redis.Redis, Head], None],
    act: Callable[[ActionStream, Head], None],
) -> None:
    head = append(stream, EMPTY, b"a", b"b", b"c")
    change(client, head)
    before = client.xrange(KEY)
    with pytest.raises(StreamMoved):
        act(stream, head)
    assert client.xrange(KEY) == before


@BOTH
def test_a_deletion_that_moves_the_front_as_well_is_noticed(
    client: redis.Redis, stream: ActionStream, act: Callable[[ActionStream, Head], None]
) -> None:
    """How many went from the front is not known, so the number of entries tells nothing."""
    append(stream, EMPTY, b"a", b"b", b"c")
    head = stream.head()
    client.xdel(KEY, *[entry_id for entry_id, _ in entries_of(client, KEY)[:-1]])
    with pytest.raises(StreamMoved):
        act(stream, head)
    assert data(client) == [b"c"]


def test_a_comparison_of_a_stream_as_we_left_it_changes_nothing(client: redis.Redis, stream: ActionStream) -> None:
    stream.compare(EMPTY)
    assert not client.exists(KEY)
    head = append(stream, EMPTY, b"a")
    there = stream.compare(head)
    assert (there.end, there.first_id, there.length) == (head.end, head.first_id, 1)
    assert append(stream, there) == there
    assert data(client) == [b"a"]


def test_a_stream_trimmed_to_nothing_is_where_we_left_it(client: redis.Redis, stream: ActionStream) -> None:
    head = append(stream, EMPTY, b"a", b"b")
    client.xtrim(KEY, maxlen=0, approximate=False)
    empty = stream.compare(head)
    assert empty.end == (head.last_id, None, None)
    assert (empty.first_id, empty.length) == (None, 0)
    assert stream.head() == empty
    append(stream, head, b"c")
    assert data(client) == [b"c"]


@pytest.mark.parametrize("knows", [True, False], ids=["known", "not known"])
def test_a_head_of_an_earlier_release_does_not_know_what_the_stream_holds(
    client: redis.Redis, stream: ActionStream, knows: bool
) -> None:
    head = append(stream, EMPTY, b"a", b"b", b"c")
    client.xdel(KEY, entries_of(client, KEY)[1][0])
    if knows:
        with pytest.raises(StreamMoved, match="has lost entries"):
            stream.compare(head)
    else:
        assert stream.compare(Head(*head.end)) == stream.head()


def test_an_older_entry_that_is_trimmed_is_no_move(client: redis.Redis, stream: ActionStream) -> None:
    head = append(stream, EMPTY, b"a", b"b")
    client.xtrim(KEY, maxlen=1, approximate=False)
    append(stream, head, b"c")
    assert data(client) == [b"b", b"c"]


def test_a_head_whose_newest_entry_was_deleted_can_be_appended_to(client: redis.Redis, stream: ActionStream) -> None:
    client.xdel(KEY, append(stream, EMPTY, b"a", b"b").last_id)
    append(stream, stream.head(), b"c")
    assert data(client) == [b"a", b"c"]


def test_a_batch_may_be_big(client: redis.Redis, stream: ActionStream) -> None:
    payloads = [b"%d" % number + b"x" * 500 for number in range(8000)]
    head = append(stream, EMPTY, *payloads)
    assert data(client) == payloads
    stream.compare(head)


def test_a_script_that_the_server_lost_is_sent_again(client: redis.Redis, stream: ActionStream) -> None:
    head = append(stream, EMPTY, b"a")
    client.script_flush()
    append(stream, head, b"b")
    assert data(client) == [b"a", b"b"]


def test_a_restarted_server_is_appended_to_again(private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes", appendfsync="always")
    stream = stream_of(shipper_client(server, 0))
    head = append(stream, EMPTY, b"a")
    server.restart()
    append(stream, head, b"b")
    assert data(server.client()) == [b"a", b"b"]


# Appends on their way


def test_two_appends_on_their_way_are_answered_each_its_own(client: redis.Redis, stream: ActionStream) -> None:
    append(stream, EMPTY, b"a")
    other = ActionStream(client, "other", "redis://test")
    one, two = begin(other, EMPTY, b"1"), begin(stream, stream.head(), b"b")
    assert two.finish() == stream.head()
    assert one.finish().end == other.head().end


def test_of_two_appends_from_the_same_head_only_the_first_is_made(client: redis.Redis, stream: ActionStream) -> None:
    one, two = begin(stream, EMPTY, b"1"), begin(stream, EMPTY, b"2")
    with pytest.raises(StreamMoved):
        two.finish()
    one.finish()
    assert data(client) == [b"1"]


def test_after_an_abandoned_append_the_next_command_gets_its_own_reply(private_server: PrivateServer) -> None:
    server = private_server()
    client = shipper_client(server, 0)
    client.ping()
    server.pause()
    begin(stream_of(client), EMPTY, b"a").abandon()
    threading.Timer(0.1, server.resume).start()  # so that the reply comes after the next command was sent
    assert client.ping() is True


def abandoned(stream: ActionStream, wire: Wire) -> None:
    begin(stream, EMPTY, b"a").abandon()


def never_sent(stream: ActionStream, wire: Wire) -> None:
    wire.fail_sending = "EVALSHA"
    with pytest.raises(StreamUnavailable):
        append(stream, EMPTY, b"a")


def reply_lost(stream: ActionStream, wire: Wire) -> None:
    wire.lose_reply = True
    with pytest.raises(StreamUnavailable):
        append(stream, EMPTY, b"a")


def refused(stream: ActionStream, wire: Wire) -> None:
    client = redis.Redis(connection_pool=stream.pool)
    client.set(KEY, "no stream")
    with pytest.raises(StreamRefused):
        append(stream, EMPTY, b"a")
    client.delete(KEY)


@pytest.mark.parametrize("end", [abandoned, never_sent, reply_lost, refused], ids=lambda end: end.__name__)
def test_however_an_append_ends_its_connection_is_free_again(
    redis_server: RedisServer, redis_db: int, end: Callable[[ActionStream, Wire], None]
) -> None:
    wire = Wire()
    client = shipper_client(redis_server, redis_db, wire)
    client.connection_pool.max_connections = 1
    stream = stream_of(client)
    end(stream, wire)
    append(stream, stream.head(), b"b")
    assert data(client)[-1] == b"b"


def test_a_lost_reply_leaves_the_append_made(redis_server: RedisServer, redis_db: int, client: redis.Redis) -> None:
    wire = Wire()
    wire.lose_reply = True
    with pytest.raises(StreamUnavailable):
        append(stream_of(shipper_client(redis_server, redis_db, wire)), EMPTY, b"a")
    assert data(client) == [b"a"]


def test_a_connection_that_breaks_while_the_script_is_sent_again_is_unavailable(
    redis_server: RedisServer, redis_db: int
) -> None:
    wire = Wire()
    stream = stream_of(shipper_client(redis_server, redis_db, wire))
    redis_server.client(redis_db).script_flush()
    wire.fail_sending = "EVAL"
    with pytest.raises(StreamUnavailable):
        append(stream, EMPTY, b"a")
    append(stream, EMPTY, b"a")
