"""A password that is changed while the shipper, tools and consumers run: they take the new one from its file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio

from hsm_shipper.config import Config
from hsm_shipper.stream.connection import client_kwargs, connect, sentinel_finder
from hsm_tools.consumer import StreamReader
from tests.conftest import PrivateServer
from tests.support.core import KEY


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "redis.password"
    file.write_text("before\n")
    return file


@pytest.mark.parametrize("user", [None, "default"])
def test_the_next_connection_has_the_new_one(private_server: PrivateServer, password: Path, user: str | None) -> None:
    server = private_server(requirepass="before")
    config = Config(
        redis_host=server.host, redis_port=server.port, redis_username=user, redis_password_file=str(password)
    )
    reader = StreamReader.from_config(config)
    with connect(config, KEY) as client:
        assert client.ping()
        assert client.config_set("requirepass", "after")
        password.write_text("after\n")
        client.connection_pool.disconnect()
        assert client.ping()
        password.write_text("")  # it is being written
        client.connection_pool.disconnect()
        assert client.ping()
        password.unlink()  # it is being replaced
        client.connection_pool.disconnect()
        assert client.ping()
    password.write_text("after\n")
    assert reader.streams() == []
    assert asyncio.run(pings(config))


async def pings(config: Config) -> bool:
    """Whether a client of asyncio is answered."""
    async with redis.asyncio.Redis(**client_kwargs(config) | {"retry": None}) as client:
        return bool(await client.ping())


def test_the_one_of_the_sentinels_too(password: Path) -> None:
    url = "redis+sentinel://127.0.0.1:1/hsm/0"
    config = Config(redis_url=url, redis_sentinel_username="look", redis_sentinel_password_file=str(password))
    finder = sentinel_finder(config, client_kwargs(config))
    assert finder is not None
    password.write_text("after\n")
    with redis.Redis(**finder.sentinel_kwargs) as client:
        assert client.connection_pool.make_connection().credential_provider.get_credentials() == ("look", "after")


def test_one_in_the_address_counts_before_the_file(tmp_path: Path) -> None:
    url = "redis+sentinel://:s3cret@h/hsm?sentinel_password=w4tch"
    none = str(tmp_path / "none")
    config = Config(redis_url=url, redis_password_file=none, redis_sentinel_password_file=none)
    kwargs = client_kwargs(config)
    finder = sentinel_finder(config, kwargs)
    assert finder is not None
    assert (kwargs["password"], finder.sentinel_kwargs["password"]) == ("s3cret", "w4tch")


def test_a_file_with_nothing_in_it_is_no_password(private_server: PrivateServer, password: Path) -> None:
    server = private_server()
    password.write_text("\n")
    config = Config(redis_host=server.host, redis_port=server.port, redis_password_file=str(password))
    with connect(config, KEY) as client:
        assert client.ping()
