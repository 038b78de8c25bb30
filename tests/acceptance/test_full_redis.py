"""A Redis at its maxmemory that evicts nothing: `check` says so, and maintenance makes room all the same."""

from __future__ import annotations

import pytest
import redis

from tests.acceptance.conftest import MakeServer
from tests.acceptance.test_check import findings
from tests.conftest import PrivateServer
from tests.simulator import SimulatedMdt, populate
from tests.support.maintained import HISTORY_ENTRIES, LOCK, add_history
from tests.support.site import LIVE, MDT, STREAM, SimulatedServer, is_true, run_once

_ROOM_BYTES = 64 * 1024


@pytest.fixture
def mdt() -> SimulatedMdt:
    """An MDT with `LIVE` actions."""
    made = SimulatedMdt(MDT)
    populate(made, LIVE)
    return made


@pytest.fixture
def server(make_server: MakeServer, private_server: PrivateServer, mdt: SimulatedMdt) -> SimulatedServer:
    """One whose Redis a long history has filled, before the live actions were appended."""
    server = make_server(redis=private_server(maxmemory_policy="noeviction"))
    add_history(server, HISTORY_ENTRIES)
    mdt.mount(server.mds)
    run_once(server)
    fill(server.redis)
    return server


def fill(client: redis.Redis) -> None:
    """Set maxmemory to what is in use: from then on what would take memory is refused."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] - _ROOM_BYTES)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("anything", "x")


def test_maintenance_trims_without_its_lock_in_redis(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    assert server.redis.xlen(STREAM) == HISTORY_ENTRIES + LIVE
    populate(mdt, LIVE)
    mdt.write()
    assert server.run("--run-once").returncode == 1, "appending is refused"
    done = server.run("--run-once", "--maintenance-now")
    [line] = [line for line in done.stderr.splitlines() if LOCK in line]
    assert "at its maxmemory and has no room for the lock" in line and "under the lock of this server alone" in line
    assert server.redis.xlen(STREAM) == 2 * LIVE, "the poll after the maintenance finds room"
    assert is_true(server.redis, mdt)
    assert not server.redis.exists(LOCK)
    run_once(server)


def test_a_lock_that_another_server_holds_is_respected(server: SimulatedServer) -> None:
    client = server.redis
    client.config_set("maxmemory", 0)
    client.set(LOCK, "mds2:7:token", px=60_000)
    fill(client)
    done = server.run("--run-once", "--maintenance-now")
    assert done.returncode == 1 and "is already running (held by mds2, pid 7" in done.stderr
    assert client.xlen(STREAM) == HISTORY_ENTRIES + LIVE


def test_check_says_that_redis_is_full(server: SimulatedServer) -> None:
    found = findings(server, "Redis", level="problem")
    assert any("it is full (maxmemory) and refuses events" in line and "maintain" in line for line in found)
    assert not [line for line in findings(server, "Redis", level="ok") if "writes are allowed" in line]
    assert not [line for line in findings(server, "maintenance", level="ok") if "locking is allowed" in line]
    assert server.run("check").returncode == 2
    assert not server.redis.exists(f"{{{STREAM}}}:check")
