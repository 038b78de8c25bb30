"""A cluster whose nodes speak TLS, and a check of nodes that are not as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.commands.check_redis import redis_findings
from hsm_shipper.commands.findings import Level
from hsm_shipper.config import Config
from hsm_shipper.errors import StreamRefused
from hsm_shipper.stream.connection import connect
from hsm_tools.aio import AsyncStreamReader
from hsm_tools.consumer import StreamReader
from tests.support.certificates import Authority
from tests.support.cluster_load import MDTS
from tests.support.clusters import RedisCluster
from tests.support.core import OneMdt, line
from tests.support.servers import free_port
from tests.support.tls import new_authority, server_with_tls, tls_options

KEYS = [f"hsm:actions:{mdt}" for mdt in MDTS]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def with_tls(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with server_with_tls():
        options = tls_options(authority, authority.issue("node"), "no")
        cluster = RedisCluster(tmp_path_factory.mktemp("tls"), options, replicas=False)
    yield cluster
    cluster.kill()


def test_all_speak_tls_to_all_nodes(with_tls: RedisCluster, authority: Authority, tmp_path: Path) -> None:
    config = Config(redis_url=with_tls.tls_url, redis_tls_ca_file=str(authority.certificate))
    for key in KEYS[1:]:
        with connect(config, key) as client:
            client.xadd(key, {"data": "{}"})
    with connect(config, KEYS[0]) as client:
        mdt = OneMdt(tmp_path, client)
        mdt.poll(line(1))
        with_tls.move(KEYS[0])
        mdt.poll(line(1, "STARTED"))
        assert mdt.told() == ["NEW 1/1 WAITING", "UPDATE 1/1 STARTED"]
    assert StreamReader.from_config(config).streams() == KEYS

    async def streams() -> list[str]:
        async with AsyncStreamReader.from_config(config) as reader:
            return await reader.streams()

    assert asyncio.run(streams()) == KEYS
    assert all(finding.level < Level.PROBLEM for finding in redis_findings(config, MDTS[0]))


def test_nodes_that_nobody_here_trusts(with_tls: RedisCluster) -> None:
    config = Config(redis_url=with_tls.tls_url)
    with pytest.raises(StreamRefused) as refused:
        StreamReader.from_config(config).streams()
    assert "name its CA in redis_tls_ca_file" in refused.value.hint
    [finding] = redis_findings(config, MDTS[0])
    assert finding.level is Level.PROBLEM and "name its CA in redis_tls_ca_file" in finding.advice


def test_one_node_with_tls_is_told_with_its_url(with_tls: RedisCluster, authority: Authority) -> None:
    node = with_tls.nodes[0]
    config = Config(redis_url=f"rediss://{node.host}:{node.tls_port}/0", redis_tls_ca_file=str(authority.certificate))
    with pytest.raises(StreamRefused) as refused:
        StreamReader.from_config(config).streams()
    assert f"rediss+cluster://{node.host}:{node.tls_port}" in refused.value.hint


def test_check_tells_a_node_of_the_address_that_is_none(cluster: RedisCluster) -> None:
    silent = f"127.0.0.1:{free_port()}"
    found = list(redis_findings(Config(redis_url=f"{cluster.url},{silent}"), MDTS[0]))
    [told] = [finding for finding in found if silent in finding.text and finding.level is not Level.OK]
    assert told.level is Level.WARNING and "does not tell where the slots are" in told.text


def test_check_finds_a_slot_without_a_node(cluster: RedisCluster) -> None:
    node = cluster.node_of(KEYS[0])
    node.ask("CLUSTER", "DELSLOTS", 1)
    try:
        *_, finding = redis_findings(Config(redis_url=f"redis+cluster://{node.host}:{node.port}"), MDTS[0])
    finally:
        node.ask("CLUSTER", "ADDSLOTS", 1)
    assert finding.level is Level.PROBLEM
    assert "1 of its 16384 slots are served by no node" in finding.text and "CLUSTER NODES" in finding.advice
