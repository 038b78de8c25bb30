"""The parameters behind the '?' of a Redis address: which redis-py takes, and what values it can use."""

from __future__ import annotations

import codecs
import difflib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from hsm_shipper.errors import ConfigError

SECRET_OPTIONS = frozenset({"password", "ssl_password", "sentinel_password"})
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password", "read_from"})
"""Ours, not redis-py's: the Sentinels have users of their own, and name replicas as well."""
FILE_OPTIONS = ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "ssl_ca_path")

_MOST = 2**31 - 1
_YES, _NO = ("1", "t", "true", "y", "yes", "on"), ("0", "f", "false", "n", "no", "off")
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_TLS = ("rediss", "rediss+sentinel", "rediss+cluster")
_TCP = ("redis", "redis+sentinel", "redis+cluster", *_TLS)
_ANY = (*_TCP, "unix")


class _Option(NamedTuple):
    read: Callable[[str], Any]
    """Its value; `ValueError` if it cannot be used."""
    must_be: str
    schemes: tuple[str, ...] = _ANY
    is_used: bool = True
    """False for what redis-py takes and this program decides by itself, whatever an address says: in what shape Redis
    replies, and that no command is repeated."""


def whole_number(text: str, least: int, most: int) -> int:
    """`text` as a number in these bounds; `ValueError` if it is none."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise ValueError(text)
    return int(text)


def _seconds(text: str) -> float:
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError(text)
    return number


def _yes_or_no(text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise ValueError(text)
    return text.lower() in _YES


def _text(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(text)
    return text


def _word(text: str) -> str:
    if not (text.isascii() and text.isprintable() and text and " " not in text):
        raise ValueError(text)
    return text


def _codec(text: str) -> str:
    try:
        return codecs.lookup(text).name
    except LookupError as error:
        raise ValueError(text) from error


def _one_of(*texts: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in texts:
            raise ValueError(text)
        return text.lower()

    return read


def _tls_version(text: str) -> int:
    import ssl  # late: 15 ms, and few addresses need it

    return ssl.TLSVersion(whole_number(text, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_3))


def _verify_flags(text: str) -> list[Any]:
    import ssl

    try:
        return [ssl.VerifyFlags[name.strip()] for name in text.strip("[]").split(",")]
    except KeyError as error:
        raise ValueError(text) from error


def _ciphers(text: str) -> str:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(text)
    except ssl.SSLError as error:
        raise ValueError(text) from error
    return text


def _at_least(least: int) -> tuple[Callable[[str], int], str]:
    return lambda text: whole_number(text, least, _MOST), f"a whole number, at least {least}"


_FLAG = (_yes_or_no, "yes or no")
_TIME = (_seconds, "a number of seconds above 0")
_NAME = (_word, "a word without blanks")
_SECRET = (_text, "a text")
_FILE = (_path, "a path")
_FLAGS = (_verify_flags, "names of ssl.VerifyFlags with commas between them")

# https://redis.readthedocs.io/en/stable/connections.html, less what no URL can express.
_OPTIONS: dict[str, _Option] = {
    "db": _Option(*_at_least(0)),
    "username": _Option(*_SECRET),
    "password": _Option(*_SECRET),
    "sentinel_username": _Option(*_SECRET, _SENTINEL),
    "sentinel_password": _Option(*_SECRET, _SENTINEL),
    "read_from": _Option(_one_of("primary", "replica"), "primary or replica", _SENTINEL),
    "client_name": _Option(*_NAME),
    "socket_timeout": _Option(*_TIME),
    "socket_connect_timeout": _Option(*_TIME),
    "socket_keepalive": _Option(*_FLAG, _TCP),
    "socket_read_size": _Option(*_at_least(1)),
    "health_check_interval": _Option(*_at_least(0)),
    "max_connections": _Option(*_at_least(1)),
    "ssl_certfile": _Option(*_FILE, _TLS),
    "ssl_keyfile": _Option(*_FILE, _TLS),
    "ssl_password": _Option(*_SECRET, _TLS),
    "ssl_ca_certs": _Option(*_FILE, _TLS),
    "ssl_ca_path": _Option(*_FILE, _TLS),
    "ssl_ca_data": _Option(*_SECRET, _TLS),
    "ssl_cert_reqs": _Option(_one_of("none", "optional", "required"), "none, optional or required", _TLS),
    "ssl_check_hostname": _Option(*_FLAG, _TLS),
    "ssl_min_version": _Option(_tls_version, "771 (TLS 1.2) or 772 (TLS 1.3)", _TLS),
    "ssl_ciphers": _Option(_ciphers, "a list of ciphers as OpenSSL knows them", _TLS),
    "ssl_include_verify_flags": _Option(*_FLAGS, _TLS),
    "ssl_exclude_verify_flags": _Option(*_FLAGS, _TLS),
    "lib_name": _Option(*_NAME, is_used=False),
    "lib_version": _Option(*_NAME, is_used=False),
    "decode_responses": _Option(*_FLAG, is_used=False),
    "encoding": _Option(_codec, "a codec of Python", is_used=False),
    "encoding_errors": _Option(*_NAME, is_used=False),
    "protocol": _Option(_one_of("2", "3"), "2 or 3", is_used=False),
    "legacy_responses": _Option(*_FLAG, is_used=False),
    "retry_on_timeout": _Option(*_FLAG, is_used=False),
}


def read_options(query: str, scheme: str) -> dict[str, Any]:
    """The parameters of `query`, with their values as redis-py wants them, for an address of `scheme`.

    Raises `ConfigError`, which names the parameter and never its value.
    """
    pairs = [pair.partition("=") for pair in query.split("&")] if query else []
    names = [unquote_plus(name) for name, _, _ in pairs]
    options: dict[str, Any] = {}
    for number, (name, (_, equals, value)) in enumerate(zip(names, pairs, strict=True), start=1):
        option = _OPTIONS.get(name)
        if option is None or not equals:
            raise _unknown(names, number, has_value=bool(equals))
        if names.count(name) > 1:
            raise _wrong(f"{name} is there twice", "leave one of them out")
        if scheme not in option.schemes:
            raise _wrong(f"{name} does not go with {scheme}://", f"it goes with {_listed(option.schemes)}")
        try:
            read = option.read(unquote_plus(value, errors="strict"))
        except ValueError:
            raise _wrong(f"{name} must be {option.must_be}", "") from None
        if option.is_used:
            options[name] = read
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise _wrong("ssl_keyfile is there without ssl_certfile", "name the certificate that the key is of")
    return options


def _unknown(names: list[str], number: int, *, has_value: bool) -> ConfigError:
    name = names[number - 1]
    # Behind a password with an '&' in it, or where there is but a word, it may be a part of a secret.
    tells = has_value and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name) and not SECRET_OPTIONS & {*names}
    if not tells:
        return _wrong(f"parameter {number} behind the '?' is none that can be used", "in a value write '&' as %26")
    near = difflib.get_close_matches(name, _OPTIONS, n=1, cutoff=0.0)
    return _wrong(f"there is no parameter {name!r}", f"the nearest that can be used is {near[0]!r}")


def _listed(schemes: tuple[str, ...]) -> str:
    *others, last = (f"{scheme}://" for scheme in schemes)
    return f"{', '.join(others)} and {last}"


def _wrong(what: str, hint: str) -> ConfigError:
    return ConfigError(f"redis_url cannot be used: {what}", hint)
