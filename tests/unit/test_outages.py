"""Which trouble with Redis passes by itself, and how long the waits between two tries are."""

from __future__ import annotations

import pytest
import redis
from redis import exceptions

from hsm_tools.reader.outages import Outage, passes, refusal, retry_delay_s


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."),
        redis.ConnectionError("max number of clients reached"),
        redis.TimeoutError("Timeout reading from socket"),
        redis.BusyLoadingError("Redis is loading the dataset in memory"),
        redis.ReadOnlyError("You can't write against a read only replica."),
        exceptions.MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
        exceptions.ClusterDownError("The cluster is down"),
        exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
        redis.ResponseError("BUSY Redis is busy running a script."),
        redis.ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed"),
        redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
        redis.ResponseError(
            "Command # 1 (XGROUP CREATE hsm:actions:elm-MDT0000 g $) of pipeline caused error: "
            "('NOREPLICAS Not enough good replicas to write.',)"
        ),
        redis.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk."),
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.", status_code="OOM"),
    ],
)
def test_what_passes_is_tried_again(error: redis.RedisError) -> None:
    assert passes(error)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (redis.AuthenticationError("Authentication required."), "password"),
        (redis.AuthenticationError("invalid username-password pair or user is disabled."), "password"),
        (exceptions.NoPermissionError("User alice has no permissions to run the 'xread' command"), "+xread"),
        (exceptions.InvalidResponse("Protocol error, got 'H' as reply type byte"), "right server"),
        (redis.ResponseError("DB index is out of range"), "database"),
        (exceptions.MovedError("3999 127.0.0.1:6381"), "right server"),
    ],
)
def test_what_a_person_must_put_right_is_raised(error: redis.RedisError, advice: str) -> None:
    assert not passes(error)
    text = str(refusal(error, "hsm:actions", "redis://localhost:6379/1"))
    assert "hsm:actions:*" in text and "redis://localhost:6379/1" in text and advice in text
    assert "\n" not in text


def test_who_waits_for_a_server_is_told_where_tls_may_be_amiss(caplog: pytest.LogCaptureFixture) -> None:
    Outage("rediss://localhost:6380/1").failed(redis.TimeoutError("Timeout connecting to server"))
    Outage("redis://localhost:6379/1").failed(redis.TimeoutError("Timeout connecting to server"))
    tls, plain = (record.getMessage() for record in caplog.records)
    assert tls.endswith(
        "trying again until there is one; is Redis up, is that its port for TLS, and does it want a "
        "certificate (redis_tls_cert_file)?"
    )
    assert plain.endswith("trying again until there is one")


@pytest.mark.parametrize(("code", "advice"), [("NOREPLICAS", "look at the replicas"), ("MISCONF", "log and its disk")])
def test_who_waits_for_a_server_that_takes_no_writes_is_told_why(
    caplog: pytest.LogCaptureFixture, code: str, advice: str
) -> None:
    Outage("rediss://localhost:6380/1").failed(redis.ResponseError(f"{code} it says so"))
    assert advice in caplog.messages[0] and "certificate" not in caplog.messages[0]


def test_waits_grow_from_a_tenth_of_a_second_to_half_a_minute() -> None:
    assert 0.05 <= retry_delay_s(1) <= 0.1
    assert 0.1 <= retry_delay_s(2) <= 0.2
    assert all(15 <= retry_delay_s(tries) <= 30 for tries in (10, 100, 1_000_000))
    assert len({retry_delay_s(10) for _ in range(10)}) > 1, "no two readers come back at the same moment"
