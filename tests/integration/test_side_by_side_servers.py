"""Processes that read side by side reach Redis as the one that starts them, however that is configured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.stream.connection import connect
from hsm_tools.live_state import beside
from hsm_tools.live_state.follow import LiveStreams
from tests.support.clusters import RedisCluster
from tests.support.dashboards import PREFIX, event
from tests.support.sentinels import SentinelService
from tests.support.servers import RedisServer
from tests.support.side_by_side import MDTS, however_short
from tests.support.tls import TlsServer, new_authority, server_with_tls
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def short_streams() -> Iterator[None]:
    with however_short():
        yield


@pytest.fixture
def command_lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command lines of the processes that are started."""
    found: list[str] = []
    started = beside._started

    def start(its: Any) -> Any:
        process: Any = started(its)
        found.append(" ".join(process.args))
        return process

    monkeypatch.setattr(beside, "_started", start)
    return found


def fill(config: Config) -> None:
    for number, mdt in enumerate(MDTS):
        key = stream_key(PREFIX, mdt)
        with connect(config, key) as client:
            for rec in range(number + 1):
                client.xadd(key, {"data": msgspec.json.encode(event(mdt, rec))})


def live(config: Config, jobs: int) -> dict[str, list[Any]]:
    streams = LiveStreams.from_config(config, jobs=jobs)
    streams.refresh()
    streams.close()
    assert [stream.trouble for stream in streams] == [None] * len(streams)
    return {stream.mdt: [msgspec.structs.astuple(action) for action in stream.live] for stream in streams}


def check(config: Config) -> None:
    """What three processes find is what one finds, and that is there."""
    found = live(config, 1)
    assert {mdt: len(actions) for mdt, actions in found.items()} == {mdt: at + 1 for at, mdt in enumerate(MDTS)}
    assert live(config, 3) == found


def test_in_a_cluster(cluster: RedisCluster, command_lines: list[str]) -> None:
    config = Config(redis_url=cluster.url)
    fill(config)
    check(config)
    assert len(command_lines) == 2


@pytest.mark.parametrize("read_from", ["primary", "replica"])
def test_by_sentinels(tmp_path: Path, read_from: str, command_lines: list[str]) -> None:
    service = SentinelService(tmp_path, replicas=2)
    try:
        service.start()
        fill(service.config())
        for replica in service.replicas:
            with replica.client() as client:
                eventually(lambda: client.xlen(stream_key(PREFIX, MDTS[-1])) == len(MDTS))
        check(service.config(redis_read_from=read_from))
    finally:
        service.kill()
    assert len(command_lines) == 2


def test_by_tls(tmp_path: Path, command_lines: list[str]) -> None:
    authority = new_authority(tmp_path)
    with server_with_tls():
        server = TlsServer(tmp_path / "server", authority, authority.issue("server"), "no")
        server.start()
    try:
        url = f"rediss://127.0.0.1:{server.tls_port}/0?ssl_ca_certs={authority.certificate}"
        fill(Config(redis_url=url))
        check(Config(redis_url=url))
    finally:
        server.kill()
    assert len(command_lines) == 2


def test_no_password_is_on_a_command_line(
    redis_server: RedisServer, redis_db: int, tmp_path: Path, command_lines: list[str]
) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "side", "on", ">s3cr3t-word", "~*", "+@all")
    password = tmp_path / "password"
    password.write_text("s3cr3t-word\n")
    where = f"{redis_server.host}:{redis_server.port}/{redis_db}"
    try:
        fill(Config(redis_url=f"redis://{where}"))
        check(Config(redis_url=f"redis://side:s3cr3t-word@{where}"))
        check(Config(redis_url=f"redis://{where}", redis_username="side", redis_password_file=str(password)))
    finally:
        with redis_server.client() as client:
            client.execute_command("ACL", "DELUSER", "side")
    assert len(command_lines) == 4
    assert all("reading_process.py" in line and "s3cr3t" not in line for line in command_lines)
