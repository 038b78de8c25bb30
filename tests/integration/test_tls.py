"""TLS to Redis: that it works, and that what is wrong with it is said, by shipper, `check` and readers alike."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hsm_shipper.commands.check_redis import redis_findings
from hsm_shipper.commands.findings import Level
from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError, StreamError, StreamRefused, StreamUnavailable
from hsm_shipper.stream.connection import address, connect
from hsm_shipper.stream.redis_errors import tls_hint
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.aio import AsyncStreamReader
from hsm_tools.consumer import StreamReader
from hsm_tools.live_view import LiveView
from tests.support.certificates import Authority
from tests.support.core import KEY
from tests.support.tls import TlsServer, new_authority, server_with_tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one that everybody trusts."""
    return new_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def servers(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TlsServer]]:
    """By what is particular about them."""
    kinds = {
        "good": (authority.issue("good"), "no"),
        "expired": (authority.issue("expired", days=-1), "no"),
        "elsewhere": (authority.issue("elsewhere", "DNS:elsewhere.example"), "no"),
        "strict": (authority.issue("strict"), "yes"),
    }
    with contextlib.ExitStack() as stack:
        found = {}
        with server_with_tls():
            for name, (certificate, clients) in kinds.items():
                found[name] = TlsServer(tmp_path_factory.mktemp(name), authority, certificate, clients)
                found[name].start()
                stack.callback(found[name].kill)
        yield found


def config_for(port: int, ca: Path | None, *more: str, scheme: str = "rediss") -> Config:
    """A configuration that talks to `port` and trusts `ca`."""
    options = [*more]
    if ca is not None:
        options.append(f"ssl_ca_certs={ca}")
    return Config(redis_url=f"{scheme}://127.0.0.1:{port}/0?" + "&".join(options))


async def streams_of(reader: AsyncStreamReader) -> list[str]:
    """What it finds."""
    async with reader:
        return await reader.streams()


def told(config: Config) -> set[tuple[type[StreamError], str]]:
    """What is raised where Redis is first asked, and its hint: by shipper, readers, and as a finding of `check`."""
    errors: list[StreamError] = []
    with connect(config, KEY) as client, pytest.raises(StreamError) as error:
        ActionStream(client, KEY, address(config)).head()
    errors.append(error.value)
    with pytest.raises(StreamError) as error, StreamReader.from_config(config) as reader:
        reader.streams()
    errors.append(error.value)
    with pytest.raises(StreamError) as error, LiveView(redis_url=config.redis_url) as view:
        view.refresh()
    errors.append(error.value)
    with pytest.raises(StreamError) as error:
        asyncio.run(streams_of(AsyncStreamReader.from_config(config)))
    errors.append(error.value)
    found = {(type(error), error.hint.removesuffix(" It is tried again at every poll")) for error in errors}
    *_, finding = redis_findings(config, None)
    assert finding.level is Level.PROBLEM and "TLS" in finding.text + finding.advice
    return found | {(errors[0].__class__, finding.advice)}


def test_with_the_right_certificates_it_works(authority: Authority, servers: dict[str, TlsServer]) -> None:
    for name, more in (("good", ()), ("strict", authority.issue("client"))):
        options = [f"{key}={path}" for key, path in zip(("ssl_certfile", "ssl_keyfile"), more, strict=False)]
        options.append("ssl_include_verify_flags=VERIFY_X509_STRICT")
        config = config_for(servers[name].tls_port, authority.certificate, *options)
        assert all(finding.level < Level.PROBLEM for finding in redis_findings(config, None))
        with StreamReader.from_config(config) as reader:
            assert reader.streams() == []


def test_a_certificate_of_an_unknown_authority(
    authority: Authority, servers: dict[str, TlsServer], tmp_path: Path
) -> None:
    for ca in (Authority(tmp_path, "other").certificate, None):
        [(kind, hint)] = told(config_for(servers["good"].tls_port, ca))
        assert kind is StreamRefused and "signed by none that is trusted here: name its CA in redis_tls_ca_file" in hint


@pytest.mark.parametrize(
    ("server", "said"), [("expired", "has expired: renew it"), ("elsewhere", "is not for this host name")]
)
def test_a_certificate_that_is_not_good_any_more_or_not_here(
    authority: Authority, servers: dict[str, TlsServer], server: str, said: str
) -> None:
    [(kind, hint)] = told(config_for(servers[server].tls_port, authority.certificate))
    assert kind is StreamRefused and said in hint


def test_a_certificate_of_the_client_is_wanted(
    authority: Authority, servers: dict[str, TlsServer], tmp_path: Path
) -> None:
    # From TLS 1.3 on the server says so only after the handshake: whoever is writing by then learns that it hung up.
    port = servers["strict"].tls_port
    maybe = "does it want a certificate (redis_tls_cert_file)?"
    for _, hint in told(config_for(port, authority.certificate)):
        assert "set redis_tls_cert_file and redis_tls_key_file" in hint or maybe in hint
    certificate, key = Authority(tmp_path, "other").issue("client")
    for _, hint in told(config_for(port, authority.certificate, f"ssl_certfile={certificate}", f"ssl_keyfile={key}")):
        assert "does not accept the certificate of this client" in hint or maybe in hint


def test_a_port_without_tls(authority: Authority, servers: dict[str, TlsServer]) -> None:
    for _, hint in told(config_for(servers["good"].port, authority.certificate, "socket_timeout=1")):
        assert "is that its port for TLS" in hint or "there is no TLS on that port" in hint


def test_a_port_with_tls_that_is_talked_to_without(servers: dict[str, TlsServer]) -> None:
    [(kind, hint)] = told(config_for(servers["good"].tls_port, None, scheme="redis"))
    assert kind is StreamUnavailable and "does it want TLS on that port (rediss://)?" in hint


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants a certificate"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "wants a certificate"),
        ("TLSV1_ALERT_UNKNOWN_CA", "does not accept the certificate"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "does not accept the certificate"),
        ("WRONG_VERSION_NUMBER", "no TLS on that port"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "ssl_min_version"),
    ],
)
def test_what_openssl_says_is_understood(reason: str, said: str) -> None:
    error = ssl.SSLError(1, "as OpenSSL says")
    error.reason = reason
    trouble = redis.ConnectionError("Error 1 while reading from socket.")
    trouble.__context__ = error
    hint = tls_hint(trouble)
    assert hint is not None and said in hint
    assert tls_hint(redis.ConnectionError("Connection refused.")) is None


def test_an_encrypted_key_without_its_password_asks_nobody(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("encrypted")
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-aes256", "-passout", "pass:s3cr3t", "-in", str(key), "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    options = (f"ssl_certfile={certificate}", f"ssl_keyfile={locked}")
    with pytest.raises(ConfigError, match=f"ssl_keyfile {locked} cannot be used"):
        connect(config_for(1, None, *options), KEY)
    with pytest.raises(ConfigError, match="ssl_password") as refused:
        connect(config_for(1, None, *options, "ssl_password=wr0ng"), KEY)
    assert "wr0ng" not in str(refused.value)
    connect(config_for(1, None, *options, "ssl_password=s3cr3t"), KEY).close()
