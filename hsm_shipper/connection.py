"""How to reach Redis: the one place that turns configuration into a redis-py client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hsm_shipper.config import Config
from hsm_shipper.errors import ConfigError

CONNECT_TIMEOUT_S = 5.0
# An append of 1,000 events takes the server a few ms; a server that forks or loads may stall for seconds.
REPLY_TIMEOUT_S = 15.0


def client_kwargs(config: Config) -> dict[str, Any]:
    """Arguments for `redis.Redis` (with `redis_url`: for `redis.Redis.from_url`) that every part shares.

    redis-py 8 repeats a command ten times by default, and a repeated append would run twice: no retries here, each
    caller knows whether it may try again. RESP3 changes the shape of replies: pinned to RESP2.
    """
    kwargs: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
    }
    if config.redis_url is None or not config.redis_url.startswith("unix:"):
        kwargs["socket_keepalive"] = True
    if config.redis_username is not None:
        kwargs["username"] = config.redis_username
    if config.redis_password_file is not None:
        kwargs["password"] = _read_password(Path(config.redis_password_file))
    if config.redis_url is None:
        kwargs |= {"host": config.redis_host, "port": config.redis_port, "db": config.redis_db}
    return kwargs


def connect(config: Config) -> redis.Redis:
    """A client; nothing is sent before its first command."""
    kwargs = client_kwargs(config)
    if config.redis_url is None:
        return redis.Redis(**kwargs)
    try:
        client: redis.Redis = redis.Redis.from_url(config.redis_url, **kwargs)
    except ValueError as error:
        raise ConfigError(f"redis_url: {redacted(config.redis_url)} cannot be used: {error}") from None
    return client


def address(config: Config) -> str:
    """Where the server is, for messages: never with a password."""
    if config.redis_url is not None:
        return redacted(config.redis_url)
    return f"redis://{config.redis_host}:{config.redis_port}/{config.redis_db}"


def redacted(url: str) -> str:
    """`url` without its user and password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _read_password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"redis_password_file: cannot read {file}: {error}") from None
