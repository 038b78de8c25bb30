"""Where Redis is: a URL or its parts, taken apart once, whole, and shown in one form that never holds a secret.

What is wrong with a URL is told by the name of its part, never by what stands there: a password that was not
percent-encoded may lie anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from hsm_shipper.contract.redis_address_options import read_options, whole_number
from hsm_shipper.errors import ConfigError

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379
DEFAULT_DB = 1
LARGEST_DB = 2**31 - 1  # SELECT takes an int

# Names, IPv4 and IPv6. A name is looked up as it is, so nothing is said about its length or its dots.
_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_ENCODE = "in a user or password write '/' as %2F, '?' as %3F, '#' as %23, '@' as %40, ':' as %3A, '%' as %25"


@dataclass(frozen=True)
class RedisAddress:
    """One Redis database. `str()` is what every message shows; `place` is a host, or the path of a Unix socket.

    `options` are redis-py's, user and password among them.
    """

    scheme: str
    place: str
    port: int
    db: int
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.place}?db={self.db}"
        host = f"[{self.place}]" if ":" in self.place else self.place
        return f"{self.scheme}://{host}:{self.port}/{self.db}"

    def client_kwargs(self) -> dict[str, Any]:
        """Arguments for `redis.Redis`."""
        kwargs = dict(self.options) | {"db": self.db}
        if self.scheme == "unix":
            return kwargs | {"unix_socket_path": self.place}
        if self.scheme == "rediss":
            kwargs = {"ssl_check_hostname": True, "ssl": True} | kwargs
        return kwargs | {"host": self.place, "port": self.port}


def address_of(host: str, port: int | str, db: int | str) -> RedisAddress:
    """The address of these parts. Raises `ConfigError`, which names the part."""
    if not _HOST.fullmatch(host):
        raise ConfigError("redis_host: what it holds is no name of a host", "a URL goes into redis_url")
    return RedisAddress(
        "redis",
        host,
        _number("redis_port", str(port), 1, 65_535),
        _number("redis_db", str(db), 0, LARGEST_DB),
    )


def parse_url(url: str) -> RedisAddress:
    """The address that `url` names, checked whole: scheme, host, port, database, and each parameter and its value.

    Raises `ConfigError`, which shows nothing of it that could be a secret.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise _wrong("it does not begin with a scheme", f"write {_forms()}")
    authority, rest = _split(rest, "/?#")
    path, query = _split(rest, "?#")
    if not url.isprintable() or " " in url:
        raise _wrong("a blank or a control character stands in it", "write it percent-encoded, a blank as %20")
    if "@" in rest or "#" in rest:  # else the password may have ended too early, and the rest of it pass for a host
        raise _wrong("an '@' or a '#' stands behind the host", _ENCODE)
    userinfo, _, place = authority.rpartition("@")
    make = _SCHEMES.get(scheme.lower())
    if make is None:
        shown = f"{scheme}://{place if _HOST.fullmatch(place) else '…'}"
        raise ConfigError(f"redis_url: {shown} cannot be used: no such scheme", f"write {_forms()}")
    options = read_options(query.removeprefix("?"), scheme.lower())
    user, _, password = userinfo.partition(":")
    options |= {name: _decoded(text) for name, text in (("username", user), ("password", password)) if text}
    return make(scheme.lower(), place, path, options)


def _over_tcp(scheme: str, place: str, path: str, options: dict[str, Any]) -> RedisAddress:
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", place)
    host, port = (_decoded(bracketed[1]), bracketed[2]) if bracketed else place.partition(":")[::2]
    if host and (not _HOST.fullmatch(host) or bool(bracketed) != (":" in host)):
        raise _wrong("what stands for the host is none", f"{_ENCODE}; an IPv6 address goes in brackets")
    number = _number("redis_url: the port", port, 1, 65_535, _ENCODE) if port else DEFAULT_PORT
    in_path = path.removeprefix("/").removesuffix("/")
    in_query = options.pop("db", None)
    db = _number("redis_url: the database behind the host", in_path, 0, LARGEST_DB) if in_path else in_query
    if in_query not in (None, db):
        raise _wrong("it names two databases", "leave one of them out")
    return RedisAddress(scheme, host or DEFAULT_HOST, number, DEFAULT_DB if db is None else db, options)


def _on_this_host(scheme: str, place: str, path: str, options: dict[str, Any]) -> RedisAddress:
    if place or path in ("", "/"):
        raise _wrong("it does not name a socket", f"write {_SHAPES['unix']}")
    db = options.pop("db", DEFAULT_DB)
    return RedisAddress(scheme, _decoded(path), 0, db, options)


_SCHEMES: dict[str, Callable[[str, str, str, dict[str, Any]], RedisAddress]] = {
    "redis": _over_tcp,
    "rediss": _over_tcp,
    "unix": _on_this_host,
}
_SHAPES = {"redis": "redis://HOST:PORT/DB", "rediss": "rediss://HOST:PORT/DB (TLS)", "unix": "unix:///PATH?db=DB"}


def _forms() -> str:
    return ", ".join(_SHAPES.values())


def _split(text: str, ends: str) -> tuple[str, str]:
    """`text` up to the first of the characters `ends`, and the rest with it."""
    at = min((found for end in ends if (found := text.find(end)) >= 0), default=len(text))
    return text[:at], text[at:]


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _wrong("what is percent-encoded in it is no UTF-8", _ENCODE) from None


def _number(what: str, text: str, least: int, most: int, hint: str = "") -> int:
    try:
        return whole_number(text, least, most)
    except ValueError:
        raise ConfigError(f"{what} is no whole number from {least} to {most}", hint) from None


def _wrong(what: str, hint: str) -> ConfigError:
    return ConfigError(f"redis_url cannot be used: {what}", hint)
