"""The lock of a maintenance run, on a real server: held, renewed, lost, expired, and with the server gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from hsm_shipper.errors import LockHeld, LockLost, StreamUnavailable
from hsm_shipper.stream import maintenance_lock
from hsm_shipper.stream.maintenance_lock import TTL_S, MaintenanceLock
from hsm_shipper.stream.stream import ActionStream
from tests.conftest import PrivateServer
from tests.support.core import shipper_client

KEY = "{hsm:actions:elm-MDT0000}:maintenance"

MakeLock = Callable[..., MaintenanceLock]


def make_lock(client: redis.Redis, host: str = "mds1") -> MaintenanceLock:
    return MaintenanceLock(client, KEY, ActionStream(client, "hsm:actions:elm-MDT0000", "redis://test"), host)


@pytest.fixture
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look renews."""
    monkeypatch.setattr(maintenance_lock, "RENEW_AFTER_S", 0.0)


def test_it_keeps_others_out_and_says_who_has_it(client: redis.Redis) -> None:
    with make_lock(client):
        with pytest.raises(LockHeld) as refused, make_lock(client, "mds2"):
            pass
        assert "hsm:actions:elm-MDT0000 is already running (held by mds1, pid " in str(refused.value)
        assert TTL_S - 5 < refused.value.retry_after_s <= TTL_S
    with make_lock(client, "mds2"):
        pass
    assert not client.exists(KEY)


@pytest.mark.usefixtures("always_due")
def test_it_is_renewed_while_it_is_held(client: redis.Redis) -> None:
    with make_lock(client) as lock:
        client.pexpire(KEY, 5000)
        lock.keep()
        assert client.pttl(KEY) > 50_000


def test_a_renewal_that_is_not_due_asks_nothing(client: redis.Redis) -> None:
    with make_lock(client) as lock:
        client.pexpire(KEY, 5000)
        lock.keep()
        assert client.pttl(KEY) <= 5000


@pytest.mark.usefixtures("always_due")
@pytest.mark.parametrize(
    ("taken_by", "said"),
    [
        (None, "nobody holds it"),
        (b"mds2.example:7:abc", "held by mds2.example, pid 7"),
        (b"what\x1b", r"held by 'what\x1b'"),
    ],
)
def test_losing_it_is_told_and_leaves_the_others_alone(client: redis.Redis, taken_by: bytes | None, said: str) -> None:
    def lose_it() -> None:
        with make_lock(client) as lock:
            client.delete(KEY)
            if taken_by is not None:
                client.set(KEY, taken_by)
            lock.keep()

    with pytest.raises(LockLost) as lost:
        lose_it()
    assert said in str(lost.value) and "\n" not in str(lost.value)
    assert client.get(KEY) == taken_by


def test_losing_it_after_the_last_look_is_no_failure(client: redis.Redis) -> None:
    with make_lock(client):
        client.set(KEY, "mds2:7:abc")
    assert client.get(KEY) == b"mds2:7:abc"


def test_a_lock_without_an_expiry_is_looked_at_again(client: redis.Redis) -> None:
    client.set(KEY, "by hand")
    with pytest.raises(LockHeld) as refused, make_lock(client):
        pass
    assert refused.value.retry_after_s == TTL_S


@pytest.mark.usefixtures("always_due")
def test_a_server_that_is_gone_ends_the_run(private_server: PrivateServer) -> None:
    server = private_server()
    client = shipper_client(server, 0)

    def outlive_the_server() -> None:
        with make_lock(client) as lock:
            server.kill()
            lock.keep()

    with pytest.raises(StreamUnavailable):
        outlive_the_server()
    with pytest.raises(StreamUnavailable), make_lock(client):
        pass


@pytest.mark.usefixtures("always_due")
def test_a_server_that_is_full_meanwhile_renews_and_releases_it(private_server: PrivateServer) -> None:
    client = shipper_client(private_server(maxmemory_policy="noeviction"), 0)
    with make_lock(client) as lock:
        client.config_set("maxmemory", "1kb")
        client.pexpire(KEY, 5000)
        lock.keep()
        assert client.pttl(KEY) > 50_000
    assert not client.exists(KEY)


@pytest.mark.usefixtures("always_due")
def test_a_server_that_is_full_is_no_reason_not_to_run(
    private_server: PrivateServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = shipper_client(private_server(maxmemory="1kb", maxmemory_policy="noeviction"), 0)
    with make_lock(client) as lock:
        lock.keep()
        client.config_set("maxmemory", 0)
        with make_lock(client, "mds2"):  # what has room again is another's
            lock.keep()
    assert not client.exists(KEY)
    [line] = [record.getMessage() for record in caplog.records]
    assert "at its maxmemory and has no room for the lock" in line
