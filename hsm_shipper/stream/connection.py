"""How to reach Redis: the one place that turns configuration into a redis-py client."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError, StreamUnavailable, unseen_hint
from hsm_shipper.redis_settings import REPLY_TIMEOUT_S, TLS_KEYS
from hsm_shipper.stream.certificates import check_certificates
from hsm_shipper.stream.cluster import client_of_key
from hsm_shipper.stream.cluster_map import ClusterNodes
from hsm_shipper.stream.one_server import greet
from hsm_shipper.stream.password_file import PasswordFile
from hsm_shipper.stream.redis_errors import tls_hint
from hsm_shipper.stream.sentinel import SENTINEL_TIMEOUT_S, SentinelFinder, find_by

CONNECT_TIMEOUT_S = 5.0


def client_kwargs(config: Config, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments for `redis.Redis` that every part shares; `more` are a caller's own, which the address overrides.

    redis-py 8 repeats a command ten times by default, and a repeated append would run twice: no retries here, each
    caller knows whether it may try again. RESP3 changes the shape of replies: pinned to RESP2. Raises `ConfigError`
    for an address, a password file or a certificate that cannot be used.
    """
    address = config.redis_address
    kwargs: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_keepalive": True,
    }
    if config.redis_username is not None:
        kwargs["username"] = config.redis_username
    if address.is_tls:
        kwargs |= _tls_kwargs(config)
    kwargs |= more or {}
    kwargs |= address.client_kwargs()
    elsewhere = {*(more or {}), *address.options}
    if config.redis_password_file is not None and "password" not in elsewhere:
        kwargs = _with_password(kwargs, "redis_password_file", config.redis_password_file)
    if kwargs.get("ssl"):
        by_key = {option: key for key, option in TLS_KEYS.items() if getattr(config, key) is not None}
        check_certificates(kwargs, {option: key for option, key in by_key.items() if option not in elsewhere})
    return kwargs


def connect(config: Config, key: str) -> redis.Redis:
    """A client for what is said about `key`, and about what a cluster keeps in its slot; one server has all keys.

    Where there are replicas, it talks to the primary. Nothing is sent before its first command.
    """
    kwargs = client_kwargs(config)
    if config.redis_address.is_cluster:
        return client_of_key(ClusterNodes(config.redis_address), kwargs, key)
    client = redis.Redis(**{"redis_connect_func": greet, **kwargs})
    finder = sentinel_finder(config, kwargs)
    if finder is not None:
        find_by(finder, client)
    return client


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


def primary_now(config: Config) -> str | None:
    """The primary that the Sentinels name now; None where none are configured.

    Raises `ConfigError`, or `StreamError` where they name none.
    """
    finder = sentinel_finder(config, client_kwargs(config))
    if finder is None:
        return None
    try:
        return str(finder.find()[0])
    except redis.RedisError as error:
        hint = tls_hint(error) or str(getattr(error, "hint", ""))
        raise StreamUnavailable(f"which server is the primary is not known: {error}", hint) from error


def sentinel_finder(config: Config, kwargs: Mapping[str, Any], read_from: str = "primary") -> SentinelFinder | None:
    """What finds the server for a client with `kwargs` (of `client_kwargs`); None where the address names it.

    Raises `ConfigError` for a password file that cannot be used.
    """
    address = config.redis_address
    if not address.is_sentinel:
        return None
    told = {name: value for name, value in kwargs.items() if name.startswith(("socket_", "ssl"))}
    for name in ("socket_timeout", "socket_connect_timeout"):
        told[name] = min(told.get(name) or SENTINEL_TIMEOUT_S, SENTINEL_TIMEOUT_S)
    told |= {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
    if config.redis_sentinel_username is not None:
        told["username"] = config.redis_sentinel_username
    options = address.options
    for name in ("username", "password"):
        told |= {name: options[f"sentinel_{name}"]} if f"sentinel_{name}" in options else {}
    if config.redis_sentinel_password_file is not None and "password" not in told:
        told = _with_password(told, "redis_sentinel_password_file", config.redis_sentinel_password_file)
    return SentinelFinder(address, read_from, told)


def address(config: Config) -> str:
    """Where the server is, for messages: never with a password."""
    return str(config.redis_address)


def _tls_kwargs(config: Config) -> dict[str, Any]:
    kwargs = {option: getattr(config, key) for key, option in TLS_KEYS.items() if getattr(config, key) is not None}
    if "ssl_password" in kwargs:
        kwargs["ssl_password"] = _read_secret("redis_tls_key_password_file", kwargs["ssl_password"])
    return kwargs


def _with_password(kwargs: Mapping[str, Any], key: str, file: str) -> dict[str, Any]:
    """`kwargs`, with the password that `file` holds whenever a connection is made."""
    provider = PasswordFile(partial(_read_secret, key, file), kwargs.get("username"))
    if not provider.password:  # nothing is no password: redis-py says none
        return {**kwargs, "password": ""}
    return {name: value for name, value in kwargs.items() if name != "username"} | {"credential_provider": provider}


def _read_secret(key: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        hint = unseen_hint(file, "look at the path, and at its owner")
        raise ConfigError(f"{key}: cannot read {file}: {error.strerror}", hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}: cannot read {file}: {error}") from None
