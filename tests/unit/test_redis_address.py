"""The address of Redis: what a URL names, and what cannot be used."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from hsm_shipper.config import Config, load_config
from hsm_shipper.contract.redis_address import Node, RedisAddress, address_of, announced, parse_url
from hsm_shipper.contract.redis_address_options import _OPTIONS
from hsm_shipper.errors import ConfigError
from hsm_shipper.stream.connection import client_kwargs, connect
from hsm_tools.aio import AsyncStreamReader
from hsm_tools.consumer import StreamReader

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://redis.example.org", "redis://redis.example.org:6379/1"),
        ("redis://redis.example.org/", "redis://redis.example.org:6379/1"),
        ("redis://redis:7000/0", "redis://redis:7000/0"),
        ("redis://redis:7000/2/", "redis://redis:7000/2"),
        ("redis://redis:7000?db=3", "redis://redis:7000/3"),
        ("redis://redis/3?db=3", "redis://redis:6379/3"),
        ("REDIS://10.0.0.1:1/15", "redis://10.0.0.1:1/15"),
        ("redis://", "redis://localhost:6379/1"),
        ("rediss://[fe80::1%25eth0]/2", "rediss://[fe80::1%eth0]:6379/2"),
        ("rediss://[2001:db8::1]:6380/2", "rediss://[2001:db8::1]:6380/2"),
        ("redis://_redis._tcp.example/2", "redis://_redis._tcp.example:6379/2"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=1"),
        ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?db=0"),
        (f"redis://:{SECRET}@redis/1", "redis://redis:6379/1"),
        (f"redis://me:{SECRET}%2F%40@redis/1", "redis://redis:6379/1"),
        (f"redis://redis/1?username=me&password={SECRET}", "redis://redis:6379/1"),
        (f"unix://me:{SECRET}@/run/redis.sock", "unix:///run/redis.sock?db=1"),
        (f"rediss://redis/1?ssl_password={SECRET}", "rediss://redis:6379/1"),
        ("redis+sentinel://h1:26380,h2,h3/hsm/2", "redis+sentinel://h1:26380,h2:26379,h3:26379/hsm/2"),
        ("redis+sentinel://h1/hsm", "redis+sentinel://h1:26379/hsm/1"),
        ("redis+sentinel://h1/hsm/?db=3", "redis+sentinel://h1:26379/hsm/3"),
        ("rediss+sentinel://[::1],[::2]:5/my.service_1-a/0", "rediss+sentinel://[::1]:26379,[::2]:5/my.service_1-a/0"),
        (f"redis+sentinel://me:{SECRET}@h1,h2/hsm", "redis+sentinel://h1:26379,h2:26379/hsm/1"),
        (f"redis+sentinel://h/hsm?sentinel_username=a&sentinel_password={SECRET}", "redis+sentinel://h:26379/hsm/1"),
        ("redis+cluster://h1:7000,h2", "redis+cluster://h1:7000,h2:6379"),
        ("REDISS+CLUSTER://[fe80::1%25eth0]:7000/0", "rediss+cluster://[fe80::1%eth0]:7000"),
        (f"redis+cluster://:{SECRET}@h1,h2/?db=0", "redis+cluster://h1:6379,h2:6379"),
    ],
)
def test_an_address_is_shown_in_one_form_without_secrets(url: str, shown: str) -> None:
    address = parse_url(url)
    assert str(address) == shown
    assert SECRET not in repr(address)
    assert str(parse_url(shown)) == shown


def test_all_hosts_of_a_list_are_taken_apart() -> None:
    address = parse_url(f"rediss+sentinel://me:{SECRET}@h1:1,[::1],h3/hsm/4?sentinel_password=x")
    assert address.nodes == (Node("h1", 1), Node("::1", 26379), Node("h3", 26379))
    assert (address.service, address.db, address.is_tls) == ("hsm", 4, True)
    assert (address.is_sentinel, address.is_cluster) == (True, False)
    address = parse_url("redis+cluster://h1:1,h2")
    assert (address.nodes, address.db) == ((Node("h1", 1), Node("h2", 6379)), 0)
    assert (address.is_sentinel, address.is_cluster, address.is_tls) == (False, True, False)


def test_user_and_password_are_found_wherever_they_stand() -> None:
    for url in (f"redis://me:{SECRET}%40%2F@h", f"redis://h?username=me&password={SECRET}%40%2F"):
        options = parse_url(url).client_kwargs()
        assert (options["username"], options["password"]) == ("me", f"{SECRET}@/")
    assert parse_url("redis://:a@h?password=b").client_kwargs()["password"] == "a"


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "scheme"),
        ("redis.example.org", "scheme"),
        ("redis:/h/1", "scheme"),
        ("http://h/1", "http://h cannot be used"),
        ("redis+magic://h", "redis\\+magic://h cannot be used"),
        ("redis://h:0", "port"),
        ("redis://h:65536", "port"),
        ("redis://h:http", "port"),
        ("redis://h:-1", "port"),
        ("redis://::1", "port"),
        ("redis://[h]", "host"),
        ("redis://a,b", "host"),
        ("redis://h!", "host"),
        ("redis://h/one", "database"),
        ("redis://h/1/2", "database"),
        ("redis://h//2", "database"),
        ("redis://h/-1", "database"),
        ("redis://h/2147483648", "database"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h?db=one", "db must be a whole number"),
        ("redis://h?db=", "db must be a whole number"),
        ("redis://h?db=1&db=2", "db is there twice"),
        ("redis://h/1#x", "'#'"),
        ("redis://h/1 ", "blank"),
        ("redis://h/1\n", "control"),
        ("redis://h/1?foo=1", "no parameter 'foo'.*'"),
        (
            "redis://h/1?socket_timout=1",
            "no parameter 'socket_timout'; the nearest that can be used is 'socket_timeout'",
        ),
        ("redis://h/1?db", "parameter 1"),
        ("redis://h/1?db=1&&", "parameter 2"),
        ("redis://h/1?retry_on_error=x", "'retry_on_error'"),
        ("redis://h/1?socket_timeout=0", "socket_timeout must be a number of seconds"),
        ("redis://h/1?socket_timeout=nan", "socket_timeout must be"),
        ("redis://h/1?socket_connect_timeout=soon", "socket_connect_timeout must be"),
        ("redis://h/1?socket_keepalive=maybe", "socket_keepalive must be yes or no"),
        ("unix:///s?socket_keepalive=yes", "socket_keepalive does not go with unix://"),
        ("redis://h/1?health_check_interval=-1", "health_check_interval must be"),
        ("redis://h/1?max_connections=0", "max_connections must be"),
        ("redis://h/1?client_name=a%20b", "client_name must be a word"),
        ("redis://h/1?protocol=4", "protocol must be 2 or 3"),
        ("redis://h/1?encoding=none", "encoding must be"),
        ("redis://h/1?ssl_ca_certs=/ca.pem", "ssl_ca_certs does not go with redis://; it goes with rediss://"),
        ("rediss://h/1?ssl_cert_reqs=maybe", "ssl_cert_reqs must be none, optional or required"),
        ("rediss://h/1?ssl_min_version=1", "ssl_min_version must be"),
        ("rediss://h/1?ssl_ciphers=none", "ssl_ciphers must be"),
        ("rediss://h/1?ssl_include_verify_flags=NONE", "ssl_include_verify_flags must be"),
        ("rediss://h/1?ssl_keyfile=/key.pem", "ssl_keyfile is there without ssl_certfile"),
        ("redis://%ff:a@h/1", "UTF-8"),
        ("redis://h/1?username=%ff", "username must be"),
        ("redis://a,b", "several are named by redis\\+sentinel://"),
        ("redis+sentinel://h1,h2", "no name of a service"),
        ("redis+sentinel://h1,h2/", "no name of a service"),
        ("redis+sentinel://h1//1", "no name of a service"),
        ("redis+sentinel://h1/a,b/1", "no name of a service"),
        ("redis+sentinel://h1/hsm/one", "database"),
        ("redis+sentinel://h1/hsm/1/2", "database"),
        ("redis+sentinel://h1/hsm/1?db=2", "two databases"),
        ("redis+sentinel://h1,,h2/hsm", "a host is missing"),
        ("redis+sentinel:///hsm", "a host is missing"),
        ("redis+sentinel://h1:0,h2/hsm", "port"),
        ("redis+sentinel://h1,fe80::1/hsm", "port"),
        ("redis+sentinel://h1,a!/hsm", "host"),
        ("redis+sentinel://me:a@h1,me:a@h2/hsm", "more than one '@'"),
        ("redis+sentinel://h1/hsm?ssl_ca_certs=/ca.pem", "ssl_ca_certs does not go with redis\\+sentinel://"),
        ("redis+sentinel://h1/hsm?sentinel_password=", "sentinel_password must be"),
        (
            "redis://h1?sentinel_username=a",
            "sentinel_username does not go with redis://; it goes with redis\\+sentinel",
        ),
        ("redis+cluster://h1?sentinel_username=a", "sentinel_username does not go with"),
        ("redis+cluster://h1,h2/1", "a cluster has but the database 0"),
        ("redis+cluster://h1,h2?db=1", "a cluster has but the database 0"),
        ("redis+cluster://h1,h2/hsm", "database"),
        ("redis+cluster://,h2", "a host is missing"),
        ("unix://run/redis.sock", "socket"),
        ("unix://", "socket"),
        ("unix:///", "socket"),
    ],
)
def test_what_cannot_be_used_is_named(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        parse_url(url)
    assert "redis_url" in str(refused.value) and "\n" not in str(refused.value)


# For these `socket` raises an UnicodeError, which redis-py hands on as it is.
UNFIT = [
    "redis..example",
    ".redis",
    "redis..",
    ".",
    f"{'x' * 64}.example",
    f"{'ö' * 60}.example",
    "ö..example",
    "::1%a..b",
]


@pytest.mark.parametrize("host", UNFIT)
def test_a_name_that_cannot_be_looked_up_is_refused_in_every_form(host: str) -> None:
    with pytest.raises(UnicodeError):
        socket.getaddrinfo(host, 6379)
    place = f"[{host}]" if ":" in host else host
    for url in (
        f"redis://{place}/1",
        f"rediss://{place}",
        f"redis+sentinel://h1,{place}/hsm",
        f"redis+cluster://h1,{place}",
    ):
        with pytest.raises(
            ConfigError, match=r"^redis_url cannot be used: the name of a host cannot be looked up: "
        ) as it:
            parse_url(url)
        assert host not in str(it.value), "it may be a part of a password"
    with pytest.raises(ValueError, match="cannot be looked up"):
        announced(host, 6379)


@pytest.mark.parametrize(
    "host", ["redis", "redis.", f"{'x' * 63}.example", "bücher.example", "a_b.-c", "::ffff:10.0.0.1"]
)
def test_a_name_that_can_be_looked_up_is_taken_as_it_is(host: str) -> None:
    host.encode("idna")
    assert address_of(host, 1, 0).nodes == (Node(host, 1),) == (announced(host.encode(), b"1"),)


@pytest.mark.parametrize(("host", "port"), [(b"", b"1"), (b"\xff", b"1"), (b"h", b"http")])
def test_what_a_server_tells_may_be_no_address(host: bytes, port: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        announced(host, port)


SAMPLES = {
    "db": "3",
    "read_from": "replica",
    "socket_timeout": "2.5",
    "socket_connect_timeout": "2",
    "socket_keepalive": "no",
    "socket_read_size": "1024",
    "health_check_interval": "30",
    "max_connections": "4",
    "ssl_cert_reqs": "required",
    "ssl_check_hostname": "no",
    "ssl_min_version": "772",
    "ssl_ciphers": "ECDHE+AESGCM",
    "ssl_include_verify_flags": "VERIFY_X509_STRICT",
    "ssl_exclude_verify_flags": "VERIFY_X509_STRICT,VERIFY_X509_PARTIAL_CHAIN",
    "decode_responses": "yes",
    "encoding": "latin-1",
    "protocol": "3",
    "legacy_responses": "no",
    "retry_on_timeout": "true",
}


def test_the_servers_are_not_told_what_is_for_the_sentinels() -> None:
    kwargs = parse_url("redis+sentinel://h/hsm?sentinel_username=me&sentinel_password=x").client_kwargs()
    assert kwargs == {"host": "h", "port": 26379, "db": 1}


@pytest.mark.parametrize("scheme", ["redis://h", "rediss://h", "unix:///s", "rediss+sentinel://h/hsm"])
def test_redis_py_takes_every_parameter_that_we_take(scheme: str) -> None:
    names = [name for name, option in _OPTIONS.items() if scheme.partition(":")[0] in option.schemes]
    kwargs = parse_url(f"{scheme}?" + "&".join(f"{name}={SAMPLES.get(name, 'x')}" for name in names)).client_kwargs()
    for client_class in (redis.Redis, redis.asyncio.Redis):
        client: Any = client_class(**kwargs, protocol=2)
        connection = client.connection_pool.make_connection()
        assert (connection.db, connection.encoder.decode_responses) == (3, False)
        assert connection.socket_timeout == 2.5


def test_what_comes_back_and_how_often_a_command_is_sent_is_not_the_addresss_to_say() -> None:
    url = "redis://h?decode_responses=yes&protocol=3&encoding=utf-16&retry_on_timeout=yes"
    client = connect(Config(redis_url=url), "key")
    settings = client.connection_pool.connection_kwargs
    assert (settings["protocol"], settings["decode_responses"], settings["encoding"]) == (2, False, "utf-8")
    assert settings["retry"].get_retries() == 0


@pytest.mark.parametrize(
    ("port", "db", "named"),
    [
        (0, 1, "redis_port"),
        (65_536, 1, "redis_port"),
        ("x", 1, "redis_port"),
        (1, -1, "redis_db"),
        (1, "x", "redis_db"),
    ],
)
def test_the_parts_of_an_address_are_checked_as_well(port: Any, db: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        address_of("localhost", port, db)
    with pytest.raises(ConfigError, match=named):
        StreamReader("localhost", port, db)
    with pytest.raises(ConfigError, match="redis_host"):
        StreamReader(f"redis://:{SECRET}@localhost")
    for host in UNFIT:
        with pytest.raises(ConfigError, match=r"^redis_host: the name of a host cannot be looked up: "):
            address_of(host, 6379, 0)
    assert address_of("::1", "6379", "0") == RedisAddress("redis", (Node("::1", 6379),), 0)


def test_redis_pys_own_arguments_change_what_is_shown() -> None:
    assert StreamReader("h", db=2, ssl=True).address == "rediss://h:6379/2"
    assert StreamReader(db=2, unix_socket_path="/s").address == "unix:///s?db=2"
    assert AsyncStreamReader(redis_url=f"redis://:{SECRET}@h").address == "redis://h:6379/1"


@pytest.mark.parametrize("name", ["ssl_certfile", "ssl_ca_certs"])
def test_a_certificate_that_cannot_be_used_is_an_error_before_redis_is_asked(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    settings: dict[str, Any] = {"ssl": True, name: str(file)}
    url = f"rediss://h?{name}={file}"
    with pytest.raises(ConfigError, match=rf"{name} {file} cannot be used: No such file"):
        client_kwargs(Config(redis_url=url))
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match=rf"{name} {file} cannot be used"):
        StreamReader(redis_url=url)
    with pytest.raises(ConfigError, match=rf"{name} {file} cannot be used"):
        StreamReader("h", 1, 1, "hsm:actions", 60, None, **settings)
    relative = tmp_path / "shipper.yaml"
    relative.write_text(f"redis_url: rediss://h?{name}=file.pem")
    with pytest.raises(ConfigError, match=f"{name} is not absolute"):
        load_config(relative, {})


def test_a_key_without_its_certificate_is_an_error() -> None:
    with pytest.raises(ConfigError, match="ssl_keyfile is there without ssl_certfile"):
        StreamReader(ssl=True, ssl_keyfile="/key.pem")


def test_the_versions_of_tls_that_a_url_names() -> None:
    assert parse_url("rediss://h?ssl_min_version=771").client_kwargs()["ssl_min_version"] is ssl.TLSVersion.TLSv1_2
