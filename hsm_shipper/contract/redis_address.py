"""Where Redis is: a URL or its parts, taken apart once, whole, and shown in one form that never holds a secret.

What is wrong with a URL is told by the name of its part, never by what stands there: a password that was not
percent-encoded may lie anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from hsm_shipper.contract.redis_address_options import SENTINEL_OPTIONS, read_options, whole_number
from hsm_shipper.errors import ConfigError

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
DEFAULT_DB = 1
LARGEST_DB = 2**31 - 1  # SELECT takes an int

# Names, IPv4 and IPv6; for the labels of a name see `unfit_label`.
_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[\w.-]+)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
# What `sentinel monitor` takes for a name (https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/).
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")
_LABEL_MAX = 63  # RFC 1035, 2.3.4
_ENCODE = "in a user or password write '/' as %2F, '?' as %3F, '#' as %23, '@' as %40, ':' as %3A, '%' as %25"


class Node(NamedTuple):
    """Where one server listens: a name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def unfit_label(host: str) -> str | None:
    """Why `host` cannot even be looked up; None if it can.

    What `socket` raises for such a name is no OSError: it puts every name into the form of IDNA first, addresses too.
    """
    if not host.isascii():
        try:
            host.encode("idna")
        except UnicodeError:
            return "it has no form in ASCII (IDNA)"
        return None
    labels = host.removesuffix(".").split(".")
    if not all(labels):
        return "nothing stands before one of its dots" if host else "it is empty"
    too_long = any(len(label) > _LABEL_MAX for label in labels)
    return f"a part of it between dots is longer than {_LABEL_MAX} characters" if too_long else None


def announced(host: bytes | str, port: bytes | str | int) -> Node:
    """Where a server listens, as another one tells. Raises `ValueError`, which says why nobody can go there."""
    name = host.decode() if isinstance(host, bytes) else host
    why = unfit_label(name)
    if why is not None:
        raise ValueError(f"the host name {name!r} cannot be looked up: {why}")
    return Node(name, int(port))


@dataclass(frozen=True)
class RedisAddress:
    """One Redis database. `str()` is what every message shows.

    `nodes` are one server, the Sentinels that know the server of `service`, or some nodes of a cluster; none with
    `socket_path`. `options` are redis-py's, user and password among them.
    """

    scheme: str
    nodes: tuple[Node, ...]
    db: int
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    service: str = ""
    socket_path: str = ""

    def __str__(self) -> str:
        if self.socket_path:
            return f"unix://{self.socket_path}?db={self.db}"
        listed = f"{self.scheme}://{','.join(map(str, self.nodes))}"
        if self.is_cluster:
            return listed
        return f"{listed}/{self.service}/{self.db}" if self.service else f"{listed}/{self.db}"

    @property
    def is_tls(self) -> bool:
        """Whether all that is said to it is encrypted."""
        return self.scheme.startswith("rediss")

    @property
    def is_sentinel(self) -> bool:
        """Whether `nodes` are Sentinels, who are asked where the server is."""
        return self.scheme.endswith("+sentinel")

    @property
    def is_cluster(self) -> bool:
        """Whether `nodes` are of a cluster, who are asked where a key is."""
        return self.scheme.endswith("+cluster")

    def client_kwargs(self) -> dict[str, Any]:
        """Arguments for `redis.Redis`; host and port are those of the first node."""
        kwargs = {name: value for name, value in self.options.items() if name not in SENTINEL_OPTIONS}
        kwargs["db"] = self.db
        if self.socket_path:
            return kwargs | {"unix_socket_path": self.socket_path}
        if self.is_tls:
            kwargs = {"ssl_check_hostname": True, "ssl": True} | kwargs
        return kwargs | self.nodes[0]._asdict()


def address_of(host: str, port: int | str, db: int | str, *, tls: bool = False) -> RedisAddress:
    """The address of these parts. Raises `ConfigError`, which names the part."""
    if not _HOST.fullmatch(host):
        raise ConfigError("redis_host: what it holds is no name of a host", "a URL goes into redis_url")
    if (why := unfit_label(host)) is not None:
        raise ConfigError(f"redis_host: the name of a host cannot be looked up: {why}")
    return RedisAddress(
        "rediss" if tls else "redis",
        (Node(host, _number("redis_port", str(port), 1, 65_535)),),
        _number("redis_db", str(db), 0, LARGEST_DB),
    )


def parse_url(url: str) -> RedisAddress:
    """The address that `url` names, checked whole: scheme, hosts, database, and each parameter and its value.

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
    if make is not _over_tcp and "@" in userinfo:  # a user for each host, perhaps: the hosts would pass for a password
        raise _wrong("more than one '@' stands in it", f"write user and password once; {_ENCODE}")
    return make(scheme.lower(), place, path, options)


def _over_tcp(scheme: str, place: str, path: str, options: dict[str, Any]) -> RedisAddress:
    if "," in place:
        raise _wrong("what stands for the host is none", f"several are named by {_SHAPES['redis+sentinel']}; {_ENCODE}")
    node = _node(place, DEFAULT_PORT)
    node = node if node.host else node._replace(host=DEFAULT_HOST)
    return RedisAddress(scheme, (node,), _database(path.removeprefix("/").removesuffix("/"), options), options)


def _by_sentinels(scheme: str, place: str, path: str, options: dict[str, Any]) -> RedisAddress:
    service, _, db = path.removeprefix("/").removesuffix("/").partition("/")
    if not _SERVICE.fullmatch(service):
        raise _wrong("behind the Sentinels stands no name of a service", f"write {_SHAPES['redis+sentinel']}")
    nodes = _nodes(place, DEFAULT_SENTINEL_PORT)
    return RedisAddress(scheme, nodes, _database(db, options), options, service=service)


def _in_cluster(scheme: str, place: str, path: str, options: dict[str, Any]) -> RedisAddress:
    if _database(path.removeprefix("/").removesuffix("/"), options, default=0) != 0:
        raise _wrong("it names a database, and a cluster has but the database 0", "leave the database out")
    return RedisAddress(scheme, _nodes(place, DEFAULT_PORT), 0, options)


def _on_this_host(scheme: str, place: str, path: str, options: dict[str, Any]) -> RedisAddress:
    if place or path in ("", "/"):
        raise _wrong("it does not name a socket", f"write {_SHAPES['unix']}")
    db = options.pop("db", DEFAULT_DB)
    socket_path = _decoded(path)
    if not socket_path.isprintable():
        raise _wrong("a control character stands in the path of the socket", "give a path of letters that can be seen")
    return RedisAddress(scheme, (), db, options, socket_path=socket_path)


_SCHEMES: dict[str, Callable[[str, str, str, dict[str, Any]], RedisAddress]] = {
    "redis": _over_tcp,
    "rediss": _over_tcp,
    "unix": _on_this_host,
    "redis+sentinel": _by_sentinels,
    "rediss+sentinel": _by_sentinels,
    "redis+cluster": _in_cluster,
    "rediss+cluster": _in_cluster,
}
_SHAPES = {
    "redis": "redis://HOST:PORT/DB",
    "rediss": "rediss://HOST:PORT/DB (TLS)",
    "unix": "unix:///PATH?db=DB",
    "redis+sentinel": "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB",
    "redis+cluster": "redis+cluster://HOST:PORT,HOST:PORT",
}


def _nodes(place: str, default_port: int) -> tuple[Node, ...]:
    nodes = tuple(_node(text, default_port) for text in place.split(","))
    if not all(node.host for node in nodes):
        raise _wrong("a host is missing", f"write {_SHAPES['redis+sentinel']}, or {_SHAPES['redis+cluster']}")
    return nodes


def _node(text: str, default_port: int) -> Node:
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", text)
    host, port = (_decoded(bracketed[1]), bracketed[2]) if bracketed else text.partition(":")[::2]
    if host and (not _HOST.fullmatch(host) or bool(bracketed) != (":" in host)):
        raise _wrong("what stands for the host is none", f"{_ENCODE}; an IPv6 address goes in brackets")
    if host and (why := unfit_label(host)) is not None:
        raise _wrong(f"the name of a host cannot be looked up: {why}", _ENCODE)
    return Node(host, _number("redis_url: the port", port, 1, 65_535, _ENCODE) if port else default_port)


def _database(in_path: str, options: dict[str, Any], default: int = DEFAULT_DB) -> int:
    """The database that the path or the parameter `db` names; the parameter is taken out."""
    in_query = options.pop("db", None)
    db = _number("redis_url: the database in its path", in_path, 0, LARGEST_DB) if in_path else in_query
    if in_query not in (None, db):
        raise _wrong("it names two databases", "leave one of them out")
    return default if db is None else db


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
