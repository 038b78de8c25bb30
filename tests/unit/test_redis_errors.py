"""What is made of the errors of Redis, in the words of each server."""

from __future__ import annotations

import pytest
import redis
import redis.exceptions

from hsm_shipper.stream.redis_errors import is_denied, is_full, permission_hint, reach_hint

KEYS = "hsm:actions:*"
NEEDS = "+eval +xadd"


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        # Redis 6.2
        ("this user has no permissions to run the 'xinfo' command or its subcommand", "+xinfo;"),
        ("this user has no permissions to access one of the keys used as arguments", f"the keys {KEYS};"),
        (
            "Error running script (call to f_1): @user_script:1: @user_script: 1: The user executing the script "
            "can't run this command or subcommand",
            f"all that it needs: {NEEDS} on the keys {KEYS}",
        ),
        (
            "Error running script (call to f_1): @user_script:1: @user_script: 1: The user executing the script can't "
            "access at least one of the keys mentioned in the command arguments",
            f"the keys {KEYS};",
        ),
        # Redis 7.0
        ("this user has no permissions to run the 'xinfo|stream' command", "+xinfo|stream;"),
        (
            "The user executing the script can't run this command or subcommand script: d02a, on @user_script:1.",
            f"all that it needs: {NEEDS} on the keys {KEYS}",
        ),
        # Redis 7.2 and Valkey
        ("User mds1 has no permissions to run the 'xinfo|stream' command", "+xinfo|stream;"),
        ("No permissions to access a key", f"the keys {KEYS};"),
        (
            "ACL failure in script: User mds1 has no permissions to run the 'xadd' command script: on @user_script:1.",
            "+xadd;",
        ),
    ],
)
def test_what_a_user_lacks_is_named(text: str, lacking: str) -> None:
    plain = "script" not in text
    error = redis.exceptions.NoPermissionError(text) if plain else redis.ResponseError(text)
    assert is_denied(error)
    assert permission_hint(error, KEYS, NEEDS).startswith(f"allow this Redis user {lacking}")


def test_a_full_server_is_told_from_others() -> None:
    text = "command not allowed when used memory > 'maxmemory'."
    assert is_full(redis.ResponseError(f"Error running script (call to f_1): @user_script:1: -OOM {text}"))
    assert is_full(redis.exceptions.OutOfMemoryError(text))
    for error in (redis.ResponseError("ERR no"), redis.ConnectionError("Connection refused.")):
        assert not is_full(error) and not is_denied(error)


@pytest.mark.parametrize(
    ("address", "text", "said"),
    [
        ("rediss://h:1/1", "Timeout connecting to server", "its port for TLS"),
        ("redis://h:1/1", "Connection closed by server.", "does it want TLS"),
        ("redis://h:1/1", "Timeout connecting to server", "otherwise"),
        ("unix:///s?db=1", "Connection closed by server.", "otherwise"),
    ],
)
def test_where_one_side_may_speak_tls_that_is_asked(address: str, text: str, said: str) -> None:
    assert said in reach_hint(redis.ConnectionError(text), address, "otherwise")
