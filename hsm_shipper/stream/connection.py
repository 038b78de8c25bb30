"""How to reach Redis: the one place that turns configuration into a redis-py client."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError
from hsm_shipper.stream.cluster import client_of_key
from hsm_shipper.stream.cluster_map import ClusterNodes
from hsm_shipper.stream.one_server import greet

CONNECT_TIMEOUT_S = 5.0
# An append of 1,000 events takes the server a few ms; a server that forks or loads may stall for seconds.
REPLY_TIMEOUT_S = 15.0


def client_kwargs(config: Config, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments for `redis.Redis` that every part shares; `more` are a caller's own, which the address overrides.

    redis-py 8 repeats a command ten times by default, and a repeated append would run twice: no retries here, each
    caller knows whether it may try again. RESP3 changes the shape of replies: pinned to RESP2. Raises `ConfigError`
    for an address, a password file or a certificate that cannot be used.
    """
    address = config.redis_address
    if address.is_sentinel:
        raise ConfigError(f"{address}: {address.scheme}:// is not supported yet", "name one server by redis://")
    kwargs: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_keepalive": True,
    }
    if config.redis_username is not None:
        kwargs["username"] = config.redis_username
    if config.redis_password_file is not None:
        kwargs["password"] = _read_password(Path(config.redis_password_file))
    kwargs |= more or {}
    kwargs |= address.client_kwargs()
    if kwargs.get("ssl"):
        _check_certificates(kwargs)
    return kwargs


def connect(config: Config, key: str | None = None) -> redis.Redis:
    """A client for what is said about `key`, and about what a cluster keeps in its slot.

    One server has all keys: its clients need none. Nothing is sent before its first command.
    """
    kwargs = client_kwargs(config)
    if config.redis_address.is_cluster:
        assert key is not None, "in a cluster each key has a client of its own"
        return client_of_key(ClusterNodes(config.redis_address), kwargs, key)
    return redis.Redis(**{"redis_connect_func": greet, **kwargs})


class Clients:
    """Clients that stay: one for all keys, or in a cluster one for each key that is asked about. For one thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._by_key: dict[str, redis.Redis] = {}

    def of(self, key: str) -> redis.Redis:
        """The client of `key`. Raises as `client_kwargs` does."""
        own = key if self._config.redis_address.is_cluster else ""
        if own not in self._by_key:
            self._by_key[own] = connect(self._config, key)
        return self._by_key[own]

    def close(self) -> None:
        """Close their connections."""
        for client in self._by_key.values():
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def address(config: Config) -> str:
    """Where the server is, for messages: never with a password."""
    return str(config.redis_address)


def _read_password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"redis_password_file: cannot read {file}: {error}") from None


def _check_certificates(kwargs: Mapping[str, Any]) -> None:
    """Whether certificates and keys can be used: redis-py would tell at the first command, as if Redis were down."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate, key = kwargs.get("ssl_certfile"), kwargs.get("ssl_keyfile")
    authorities = [kwargs.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")]
    if key is not None and certificate is None:
        raise ConfigError("ssl_keyfile is there without ssl_certfile", "name the certificate that the key is of")
    tried, hint = "", ""
    try:
        if certificate is not None:
            tried = f"ssl_certfile {certificate}" + (f" with ssl_keyfile {key}" if key else "")
            hint = "look at its owner and content; ssl_password is the password of an encrypted key"
            # Without any password OpenSSL asks the terminal for one.
            context.load_cert_chain(certificate, key, kwargs.get("ssl_password") or "")
        if any(authorities):
            tried, hint = f"ssl_ca_certs {authorities[0] or authorities[1] or 'in ssl_ca_data'}", "give a PEM file"
            context.load_verify_locations(*authorities)
    except (OSError, ValueError) as error:  # ssl.SSLError among them
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{tried} cannot be used: {why}", hint) from None
