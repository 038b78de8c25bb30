"""Sentinel: the primary is found, again after it changed, and what is wrong is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsm_shipper.stream.connection import connect
from hsm_tools.consumer import StreamReader
from tests.support.core import KEY, add
from tests.support.sentinels import SentinelService


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelService]:
    """A primary, two replicas, three Sentinels."""
    service = SentinelService(tmp_path_factory.mktemp("service"), replicas=2)
    try:
        yield service.start()
    finally:
        service.kill()


def test_the_primary_is_looked_up_whenever_a_connection_is_made(service: SentinelService) -> None:
    with connect(service.config()) as client:
        for _ in range(2):
            add(client, b"{}")
            with service.primary.client() as there:
                assert client.xinfo_stream(KEY)["last-generated-id"] == there.xinfo_stream(KEY)["last-generated-id"]
            before = service.primary
            assert service.switch() is not before
            client.connection_pool.disconnect()
    with StreamReader.from_config(service.config()) as reader:
        assert reader.streams() == [KEY]
