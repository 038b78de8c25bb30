"""TLS by keys of the configuration: what they mean, files that cannot be used, and Sentinels that speak it."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hsm_shipper.commands.check_certificates import certificate_findings
from hsm_shipper.commands.check_redis import redis_findings
from hsm_shipper.commands.findings import Level
from hsm_shipper.config import Config, load_config
from hsm_shipper.errors import ConfigError, StreamError, StreamRefused, StreamUnavailable
from hsm_shipper.stream.certificates import valid_until
from hsm_shipper.stream.connection import address, connect, primary_now
from hsm_shipper.stream.stream import ActionStream
from hsm_tools.aio import AsyncStreamReader
from hsm_tools.command.options import add_connection_options, load
from hsm_tools.consumer import StreamReader
from tests.support.certificates import Authority
from tests.support.core import KEY
from tests.support.sentinels import SERVICE, SentinelServer
from tests.support.servers import RedisServer, free_port
from tests.support.tls import TlsServer, new_authority, server_with_tls, tls_options
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one that everybody trusts."""
    return new_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def strict(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server that wants certificates of its clients."""
    with server_with_tls():
        server = TlsServer(tmp_path_factory.mktemp("strict"), authority, authority.issue("strict"), "yes")
        server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def mine(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Keys for a client whose key is encrypted."""
    folder = tmp_path_factory.mktemp("mine")
    certificate, key = authority.issue("client")
    locked, password = folder / "locked.key", folder / "key.password"
    command = ["openssl", "ec", "-aes256", "-passout", "pass:s3cr3t", "-in", str(key), "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    password.write_text("s3cr3t\n")
    return {
        "redis_tls_ca_file": str(authority.certificate),
        "redis_tls_cert_file": str(certificate),
        "redis_tls_key_file": str(locked),
        "redis_tls_key_password_file": str(password),
    }


async def streams_of(reader: AsyncStreamReader) -> list[str]:
    """What it finds."""
    async with reader:
        return await reader.streams()


def test_the_keys_switch_tls_on_and_go_with_a_url(strict: TlsServer, mine: dict[str, Any]) -> None:
    by_host = Config(redis_host="127.0.0.1", redis_port=strict.tls_port, redis_db=0, **mine)
    by_url = Config(redis_url=f"rediss://127.0.0.1:{strict.tls_port}/0", **mine)
    assert address(by_host) == address(by_url) == f"rediss://127.0.0.1:{strict.tls_port}/0"
    for config in (by_host, by_url):
        assert all(finding.level < Level.PROBLEM for finding in redis_findings(config, None))
        with StreamReader.from_config(config) as reader:
            assert reader.streams() == []
        assert asyncio.run(streams_of(AsyncStreamReader.from_config(config))) == []


def test_what_a_url_says_itself_counts(strict: TlsServer, mine: dict[str, Any], tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{strict.tls_port}/0?ssl_ca_certs={mine['redis_tls_ca_file']}"
    file = tmp_path / "shipper.yaml"
    file.write_text("".join(f"{key}: {path}\n" for key, path in mine.items()) + f"redis_url: {url}\n")
    file.write_text(
        file.read_text().replace(f"redis_tls_ca_file: {mine['redis_tls_ca_file']}", "redis_tls_ca_file: /no")
    )
    loaded = load_config(file, {})
    assert loaded.warnings == ("redis_url names ssl_ca_certs itself, so redis_tls_ca_file is not used",)
    with connect(loaded.config, KEY) as client:
        assert client.ping()


@pytest.mark.parametrize("url", ["redis://h", "unix:///s", "redis+sentinel://h/hsm", "redis+cluster://h"])
def test_keys_for_tls_beside_a_url_without_are_an_error(url: str, tmp_path: Path) -> None:
    file = tmp_path / "shipper.yaml"
    file.write_text(f"redis_url: {url}\nredis_tls_ca_file: /ca.pem\n")
    with pytest.raises(ConfigError, match="redis_tls_ca_file is set, and redis_url names a Redis without TLS"):
        load_config(file, {})


def test_another_url_on_a_command_line_says_whether_there_is_tls(tmp_path: Path) -> None:
    file = tmp_path / "shipper.yaml"
    file.write_text("redis_tls_ca_file: /no/ca.pem\n")
    parser = argparse.ArgumentParser()
    add_connection_options(parser)
    arguments = ["-c", str(file), "--redis-url", "redis://h"]
    config = load(parser.parse_args(arguments), lambda _: None).config
    assert StreamReader.from_config(config).address == "redis://h:6379/1"
    config = load(parser.parse_args(["-c", str(file), "--host", "h"]), lambda _: None).config
    with pytest.raises(ConfigError, match=r"redis_tls_ca_file /no/ca\.pem cannot be used"):
        StreamReader.from_config(config)


def broken(folder: Path, authority: Authority, mine: dict[str, str]) -> dict[str, tuple[dict[str, str], str]]:
    """By name: what is wrong with the keys, and what is said."""
    none, junk, other = folder / "none", folder / "junk", folder / "other.password"
    junk.write_text("junk")
    other.write_text("wr0ng")
    stranger = authority.issue("stranger")[1]
    plain = {key: path for key, path in mine.items() if key != "redis_tls_key_password_file"}
    return {
        "no CA": ({"redis_tls_ca_file": str(none)}, f"redis_tls_ca_file {none} cannot be used: No such file"),
        "a CA that is none": (
            {"redis_tls_ca_file": str(junk)},
            f"redis_tls_ca_file {junk} cannot be used: there is no",
        ),
        "no certificate": (
            mine | {"redis_tls_cert_file": str(none)},
            f"redis_tls_cert_file {none} cannot be used: No such file",
        ),
        "a certificate that is none": (
            mine | {"redis_tls_cert_file": str(junk)},
            f"redis_tls_cert_file {junk} cannot be used: there is no certificate in it",
        ),
        "no key": (mine | {"redis_tls_key_file": str(none)}, f"redis_tls_key_file {none} cannot be used: No such file"),
        "a key that is none": (
            mine | {"redis_tls_key_file": str(junk)},
            f"redis_tls_key_file {junk} cannot be used: there is no private key in it",
        ),
        "another's key": (
            plain | {"redis_tls_key_file": str(stranger)},
            f"the key does not fit redis_tls_cert_file {mine['redis_tls_cert_file']}",
        ),
        "no password": (plain, "it is encrypted, and redis_tls_key_password_file is not set"),
        "a wrong password": (
            mine | {"redis_tls_key_password_file": str(other)},
            "it is encrypted, and redis_tls_key_password_file is wrong",
        ),
        "no password file": (
            mine | {"redis_tls_key_password_file": str(none)},
            f"redis_tls_key_password_file: cannot read {none}",
        ),
        "a key without a certificate": (
            {"redis_tls_key_file": mine["redis_tls_key_file"]},
            "redis_tls_key_file is there without redis_tls_cert_file",
        ),
    }


def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    authority: Authority, mine: dict[str, str], tmp_path: Path
) -> None:
    for keys, said in broken(tmp_path, authority, mine).values():
        config = Config(**keys)  # type: ignore[arg-type]
        for refused in (lambda c: connect(c, KEY), lambda c: StreamReader.from_config(c)):
            with pytest.raises(ConfigError) as error:
                refused(config)
            assert said in str(error.value)
            assert "wr0ng" not in str(error.value)
        [finding] = redis_findings(config, None)
        assert finding.level is Level.PROBLEM and said in finding.text


def test_a_file_that_may_not_be_read_is_named(mine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", closed)
    config = Config(redis_tls_ca_file=mine["redis_tls_ca_file"])
    with pytest.raises(
        ConfigError, match=f"redis_tls_ca_file {config.redis_tls_ca_file} cannot be used: Permission de"
    ):
        connect(config, KEY)


def test_check_tells_until_when_certificates_are_valid(authority: Authority, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    levels = {}
    for name, days in (("late", -1), ("soon", 10), ("good", 300)):
        certificate, _ = authority.issue(name, days=days)
        [until] = valid_until(certificate)
        assert until is not None
        assert abs(until - now - timedelta(days=days)) < timedelta(hours=1)
        config = Config(redis_tls_cert_file=str(certificate))
        [finding] = certificate_findings(config)
        levels[name] = finding.level
        assert (finding.subject, str(certificate) in finding.text) == ("redis_tls_cert_file", True)
    assert levels == {"late": Level.PROBLEM, "soon": Level.WARNING, "good": Level.OK}
    [finding] = certificate_findings(Config(redis_url=f"rediss://h?ssl_ca_certs={authority.certificate}"))
    assert finding.subject == "ssl_ca_certs"
    junk = tmp_path / "junk"
    for content in (b"junk", b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", b"\xff" * 99):
        junk.write_bytes(content)
        assert set(valid_until(junk)) <= {None}
    assert valid_until(tmp_path / "none") == []
    assert list(certificate_findings(Config())) == []


def test_authorities_that_are_exchanged_lie_side_by_side(authority: Authority, tmp_path: Path) -> None:
    """The old one has expired, or is about to; of a chain of ours it would be what counts."""
    both = tmp_path / "both.pem"
    late, soon, good = (
        authority.issue(name, days=days)[0].read_text() for name, days in (("l", -1), ("s", 10), ("g", 99))
    )
    for content, level in ((late + good, Level.OK), (good + late, Level.OK), (soon + late, Level.WARNING)):
        both.write_text(content)
        [finding] = certificate_findings(Config(redis_tls_ca_file=str(both)))
        assert (finding.level, "the last of its 2 certificates" in finding.text) == (level, True)
    both.write_text(late + good)
    [finding] = certificate_findings(Config(redis_tls_cert_file=str(both)))
    assert finding.level is Level.PROBLEM


def test_a_certificate_that_is_renewed_in_place_needs_no_restart(
    strict: TlsServer, mine: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    (late, late_key), (good, good_key) = authority.issue("client-late", days=-1), authority.issue("client-good")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes(late.read_bytes())
    key.write_bytes(late_key.read_bytes())
    files = {"redis_tls_cert_file": str(certificate), "redis_tls_key_file": str(key)}
    config = Config(redis_port=strict.tls_port, redis_db=0, redis_host="127.0.0.1", **{**mine, **files})
    with connect(config, KEY) as client:
        stream = ActionStream(client, KEY, address(config))
        with pytest.raises(StreamError) as error:
            stream.head()
        maybe = "does it want a certificate (redis_tls_cert_file)?"  # TLS 1.3 tells only who reads in time
        assert "`hsm-action-shipper check`" in error.value.hint or maybe in error.value.hint
        certificate.write_bytes(good.read_bytes())
        key.write_bytes(good_key.read_bytes())
        stream.head()


def test_dates_of_certificates_are_those_that_openssl_reads(authority: Authority) -> None:
    command = ["openssl", "x509", "-in", str(authority.certificate), "-noout", "-enddate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    wanted = datetime.strptime(done.stdout.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert valid_until(authority.certificate) == [wanted]


class TlsSentinel:
    """A server and its Sentinel, which talk with TLS, and show these certificates."""

    def __init__(
        self, folder: Path, authority: Authority, of_server: tuple[Path, Path], of_sentinel: tuple[Path, Path]
    ) -> None:
        with server_with_tls():
            options = {"tls-port": str(free_port()), **tls_options(authority, of_server, "yes")}
            self.server = RedisServer(folder / "server", options)
            self.server.start()
            self.tls_port = free_port()
            lines = {"tls-port": str(self.tls_port), "tls-replication": "yes"}
            lines |= tls_options(authority, of_sentinel, "yes")
            told = [f"{name} {value}" for name, value in lines.items()]
            self.sentinel = SentinelServer(folder / "sentinel", self.server, *told, port=int(options["tls-port"]))
            self.sentinel.start()
        self.url = f"rediss+sentinel://127.0.0.1:{self.tls_port}/{SERVICE}/0"

    def kill(self) -> None:
        """End both."""
        self.sentinel.kill()
        self.server.kill()


def refusal(ask: Callable[[], object]) -> StreamRefused:
    """What `ask` is refused with; a busy Sentinel may take longer than it is given, and is asked again."""

    def refused() -> StreamRefused | None:
        try:
            ask()
        except StreamRefused as error:
            return error
        except StreamUnavailable:
            return None
        raise AssertionError("it was not refused")

    found = eventually(refused)
    assert found is not None
    return found


def test_sentinels_and_servers_with_tls(authority: Authority, mine: dict[str, Any], tmp_path: Path) -> None:
    good, elsewhere = authority.issue("here"), authority.issue("there", "DNS:elsewhere.example")
    for number, (of_server, of_sentinel) in enumerate([(good, good), (elsewhere, good), (good, elsewhere)]):
        site = TlsSentinel(tmp_path / str(number), authority, of_server, of_sentinel)
        config = Config(redis_url=site.url, **mine)
        try:
            if of_server is of_sentinel:
                with StreamReader.from_config(config) as reader:
                    assert reader.streams() == []
                assert asyncio.run(streams_of(AsyncStreamReader.from_config(config))) == []
                assert primary_now(config) is not None
                continue
            with connect(config, KEY) as client:
                head = ActionStream(client, KEY, address(config)).head
                assert "is not for this host name" in refusal(head).hint
            refused = refusal(lambda config=config: asyncio.run(streams_of(AsyncStreamReader.from_config(config))))  # type: ignore[misc]
            assert "is not for this host name" in str(refused)
        finally:
            site.kill()
