"""What is made of the errors of Redis, in the words of each server."""

from __future__ import annotations

import pytest
import redis
import redis.exceptions

from hsm_shipper.errors import unseen_hint
from hsm_shipper.stream.redis_errors import is_denied, is_full, permission_hint, reach_hint
from tests.support.units import UNITS, setting

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


@pytest.mark.parametrize(("path", "unseen"), [("/tmp/redis.sock", True), ("/run/redis/redis.sock", False)])
def test_a_socket_that_the_units_of_systemd_hide_is_said_to_be(path: str, unseen: bool) -> None:
    with pytest.raises(redis.ConnectionError) as missed:
        redis.Redis(unix_socket_path=f"{path}.none").ping()
    hint = reach_hint(missed.value, f"unix://{path}?db=1", "is Redis up?")
    assert ("do not see /home, /root, /run/user and /tmp" in hint) is unseen
    assert hint.startswith("is Redis up?")


def test_what_the_hint_names_is_what_the_units_hide() -> None:
    for unit in ("hsm-action-shipper.service", "hsm-stream-reconciler.service"):
        assert setting(UNITS / unit, "Service.ProtectHome") == setting(UNITS / unit, "Service.PrivateTmp") == "yes"
    assert unseen_hint("/etc/hsm-shipper/password", "look") == "look"
    for folder in ("/home/me", "/root", "/run/user/0", "/tmp", "/var/tmp"):
        assert unseen_hint(f"{folder}/password", "look").startswith("look (our services of systemd do not see")
