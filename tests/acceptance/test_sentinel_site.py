"""The installed commands where Redis is a service of Sentinels: shipper, `check`, `status` and every tool alike."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import MakeServer
from tests.simulator import SimulatedMdt, populate
from tests.support.sentinels import SentinelService
from tests.support.shipper import COMMAND, clean_environment
from tests.support.site import LIVE, MDT, STREAM, SimulatedServer, is_true, run_once
from tests.support.waiting import DEADLINE_S, eventually

TOOLS = (
    ("hsm-stream-tail", "-n", "1", "--no-follow", "--no-paths"),
    ("hsm-stream-stats", "--format", "table"),
    ("hsm-action-top", "--run-once"),
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SentinelService]:
    """A primary that writes to disk, its replica, three Sentinels."""
    service = SentinelService(tmp_path / "service", options={"appendonly": "yes"})
    try:
        yield service.start()
    finally:
        service.kill()


@pytest.fixture
def server(make_server: MakeServer, service: SentinelService) -> SimulatedServer:
    """A metadata server whose configuration names the service alone, and wants entries to be on the replica."""
    server = make_server(redis=service.servers[0], redis_url=service.url, redis_wait_replicas=1, redis_wait_timeout=10)
    del server.keys["redis_port"], server.keys["redis_db"]
    server.configure()
    return server


def run(name: str, *arguments: str) -> str:
    """What an installed command prints; it must end well."""
    command = [str(COMMAND.with_name(name)), *arguments]
    environment = clean_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_everything_is_at_the_primary_before_and_after_a_failover(
    service: SentinelService, server: SimulatedServer
) -> None:
    mdt = SimulatedMdt(MDT)
    populate(mdt, LIVE)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    for named_by in (["-c", str(server.config)], ["--redis-url", service.url]):
        primary = service.primary
        with primary.client() as client:
            eventually(lambda there=client: is_true(there, mdt))  # type: ignore[misc]
        told = json.loads(server.run("status", "--json").stdout)["redis"]
        assert told == {"address": service.url, "primary": f"127.0.0.1:{primary.port}"}
        for name, *arguments in TOOLS:
            run(name, *named_by, *arguments)
        if named_by[0] == "-c":
            run("hsm-stream-reconciler", *named_by)
            assert f"Redis: the Sentinels name 127.0.0.1:{primary.port} as" in server.run("status").stdout
            service.switch()
            mdt.submit("ARCHIVE")
            mdt.write()
            server.wait_polled(mdt)
    assert server.run("maintain").returncode == 0
    assert server.stop() == 0
    found = json.loads(server.run("check", "--json").stdout)["findings"]
    assert not [finding for finding in found if finding["level"] == "problem"]
    texts = [finding["text"] for finding in found]
    assert any(text.startswith("3 of 3 name 127.0.0.1:") for text in texts)
    assert "a write is kept on 1 replica within 10 s" in texts


def test_a_poll_without_any_sentinel_says_so(service: SentinelService, server: SimulatedServer) -> None:
    server.add_mdt(MDT)
    run_once(server)
    for sentinel in service.sentinels:
        sentinel.kill()
    said = run_once(server, returncode=1)
    assert "no Sentinel answers (127.0.0.1:" in said and "are the Sentinels up" in said
    status = server.run("status")
    assert "which server is the primary is not known: no Sentinel answers" in status.stdout
    found = json.loads(server.run("check", "--json").stdout)["findings"]
    assert {finding["level"] for finding in found if finding["subject"] == "Sentinels"} == {"problem"}
    done = subprocess.run(
        [str(COMMAND.with_name("hsm-stream-stats")), "--redis-url", service.url],
        env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "no Sentinel answers" in done.stderr
    assert STREAM not in done.stdout
