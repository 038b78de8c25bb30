"""The judge of `make torture` sees what is lost, false and duplicated, and how a stream went elsewhere."""

from __future__ import annotations

import json

import pytest
import redis

from tests.support.core import MDT, line
from tests.support.servers import RedisServer
from tests.torture.judge import Judge

KEY = f"hsm:actions:{MDT}"


@pytest.fixture
def client(redis_server: RedisServer, redis_db: int) -> redis.Redis:
    return redis_server.client(redis_db)


@pytest.fixture
def judge(client: redis.Redis) -> Judge:
    return Judge(client, KEY)


def say(client: redis.Redis, kind: str, rec: int, status: str = "WAITING") -> str:
    """Append an event as ours are."""
    raw = line(rec, status).decode()
    words = dict(word.split("=", 1) for word in raw.split(" ") if "=" in word)
    event = {
        "event_type": kind, "mdt": MDT, "cat_idx": 1, "rec_idx": rec, "fid": words["fid"].strip("[]"),
        "action": words["action"], "status": status, "cookie": words["compound/cookie"].split("/")[1], "raw": raw,
        "first_seen": 1, "status_since": 1,
    }  # fmt: skip
    event["action_key"] = f"{event['fid']}:{event['action']}"
    return str(client.xadd(KEY, {"data": json.dumps(event)}).decode())  # type: ignore[union-attr]


def test_what_is_so_is_no_complaint(client: redis.Redis, judge: Judge) -> None:
    judge.lists([line(1), line(2)])
    assert judge.difference() == 2
    say(client, "NEW", 1)
    say(client, "NEW", 2)
    judge.read()
    assert judge.difference() == 0
    judge.lists([line(2, "STARTED")])
    assert judge.difference() == 2
    say(client, "PURGED", 1)
    say(client, "UPDATE", 2, "STARTED")
    judge.read()
    assert (judge.difference(), judge.complaints) == (0, [])


def test_what_is_false_or_duplicated_is_told(client: redis.Redis, judge: Judge) -> None:
    judge.lists([line(1)])
    say(client, "NEW", 1)
    say(client, "NEW", 1)
    say(client, "PURGED", 1)
    say(client, "NEW", 7)
    judge.read()
    assert judge.counts == {"duplicated": 1, "false": 2}
    assert judge.difference() == 2


def test_what_is_forgiven_is_read_anew_and_counts_as_lost_only(client: redis.Redis, judge: Judge) -> None:
    judge.lists([line(1), line(2)])
    ids = [say(client, "NEW", rec) for rec in (1, 2)]
    judge.read()
    client.xdel(KEY, ids[0])
    judge.read(forgives=True)
    assert (judge.difference(), judge.complaints) == (1, [])
    say(client, "NEW", 1)
    judge.read(forgives=True)
    assert (judge.difference(), judge.complaints) == (0, [])


def test_a_stream_that_lost_what_was_read_is_read_anew(client: redis.Redis, judge: Judge) -> None:
    judge.lists([line(1), line(2)])
    for rec in (1, 2):
        say(client, "NEW", rec)
    judge.read()
    client.delete(KEY)
    judge.read()
    assert judge.difference() == 2
    for rec in (1, 2):
        say(client, "NEW", rec)
    judge.read()
    assert (judge.difference(), judge.complaints) == (0, [])
