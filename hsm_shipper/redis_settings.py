"""The keys of the configuration that are about Redis: what each means to redis-py, and which go together."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from hsm_shipper.contract.redis_address_options import FILE_OPTIONS
from hsm_shipper.errors import ConfigError

if TYPE_CHECKING:
    from hsm_shipper.config import Config

REPLY_TIMEOUT_S = 15.0
"""How long a reply may take. An append of 1,000 events takes the server a few ms; one that forks or loads may stall for
seconds."""

# By key, the option of redis-py or of the address that says the same; one in redis_url counts before the key.
TLS_KEYS = {
    "redis_tls_ca_file": "ssl_ca_certs",
    "redis_tls_cert_file": "ssl_certfile",
    "redis_tls_key_file": "ssl_keyfile",
    "redis_tls_key_password_file": "ssl_password",
}
_USER_KEYS = {"redis_username": "username", "redis_password_file": "password"}
_SENTINEL_KEYS = {
    "redis_sentinel_username": "sentinel_username",
    "redis_sentinel_password_file": "sentinel_password",
    "redis_read_from": "read_from",
}
PASSWORD_FILE_KEYS = ("redis_password_file", "redis_sentinel_password_file", "redis_tls_key_password_file")
FILE_KEYS = (*PASSWORD_FILE_KEYS, "redis_tls_ca_file", "redis_tls_cert_file", "redis_tls_key_file")


def unused_keys(config: Config, changed: Container[str]) -> list[str]:
    """A warning for each key of `changed`, which has not its default, that something else makes of no use."""
    if config.redis_url is None:
        return []
    address = config.redis_address
    warnings = []
    if any(key in changed for key in ("redis_host", "redis_port", "redis_db")):
        warnings.append("redis_url is set, so redis_host, redis_port and redis_db are not used")
    for key, option in (TLS_KEYS | _USER_KEYS | _SENTINEL_KEYS).items():
        if key in changed and option in address.options:
            warnings.append(f"redis_url names {_named(option)} itself, so {key} is not used")
        elif key in changed and key in _SENTINEL_KEYS and not address.is_sentinel:
            warnings.append(f"redis_url names no Sentinels, so {key} is not used")
    return warnings


def _named(option: str) -> str:
    return option if option.startswith(("ssl", "read", "sentinel")) else f"a {option}"


def check_settings(config: Config) -> None:
    """Raise `ConfigError` for what does not go together."""
    address = config.redis_address
    for option, path in address.options.items():
        if option in FILE_OPTIONS and not path.startswith("/"):
            raise ConfigError(f"redis_url: {option} is not absolute", "give a path that begins with '/'")
    for key in ("redis_username", "redis_sentinel_username"):
        # Of bytes of the environment that are no UTF-8, and of YAML's escapes: redis-py could not send it.
        if any("\ud800" <= letter <= "\udfff" for letter in getattr(config, key) or ""):
            raise ConfigError(f"{key}: what it holds is no UTF-8", "give the name as Redis has it (ACL LIST)")
    for key in TLS_KEYS:
        if getattr(config, key) is not None and not address.is_tls:
            raise ConfigError(
                f"{key} is set, and redis_url names a Redis without TLS ({address})",
                "write rediss:// (rediss+sentinel://, rediss+cluster://), or remove the key",
            )
    if config.redis_read_from == "replica" and not address.is_sentinel:
        raise ConfigError(
            f"redis_read_from: 'replica' cannot be used with {address}",
            "replicas are found by Sentinels: name them in redis_url (redis+sentinel://)",
        )
    _check_wait(config, address.options.get("socket_timeout", REPLY_TIMEOUT_S))


def _check_wait(config: Config, reply_timeout_s: float) -> None:
    waits = config.redis_wait_replicas > 0 or config.redis_wait_fsync
    if waits and not 0.001 <= config.redis_wait_timeout_s < reply_timeout_s:
        raise ConfigError(
            f"redis_wait_timeout: {config.redis_wait_timeout_s:g} cannot be used",
            f"give 0.001 s or more, and less than the time that any reply may take ({reply_timeout_s:g} s)",
        )
