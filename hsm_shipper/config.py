"""The configuration: a YAML file, overridden key by key by environment variables `HSM_<KEY>`.

Every key is optional. What cannot be used is an error that names the key, the value and, for an unknown key, the
nearest one that exists: a typing mistake must not quietly become a default on a production server.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from hsm_shipper.contract.redis_address import (
    DEFAULT_DB,
    DEFAULT_HOST,
    DEFAULT_PORT,
    LARGEST_DB,
    RedisAddress,
    address_of,
    parse_url,
)
from hsm_shipper.contract.redis_keys import DEFAULT_PREFIX, check_prefix
from hsm_shipper.errors import ConfigError
from hsm_shipper.redis_settings import FILE_KEYS, PASSWORD_FILE_KEYS, TLS_KEYS, check_settings, unused_keys

if TYPE_CHECKING:
    import yaml

DEFAULT_FILE = Path("/etc/hsm-shipper/hsm-shipper.yaml")
ENV_PREFIX = "HSM_"
RETIRED_KEYS = frozenset({"trim_chunk_size", "use_approximate_trimming", "cache_path"})
# Only files of 0.1.0 have them; it wrote one stream for all MDTs.
_KEYS_OF_0_1 = frozenset({"redis_stream_name", "heartbeat_interval"})
# In earlier files; Python's other names of the levels mean the same.
_LOG_LEVELS = {"CRITICAL": "ERROR", "FATAL": "ERROR", "WARN": "WARNING"}

_HOST_MAX = 255  # characters: DNS has no longer names (RFC 1035), and every event has it
# sun_path of sockaddr_un is 108 bytes with its NUL (unix(7)); supervisord first binds `<name>.<pid>`.
_RUN_DIR_MAX_BYTES = 107 - len("/supervisor.sock.4194304")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=366 * 86_400)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One loaded configuration; the names in the file are the family's, see `deploy/hsm-shipper.yaml`."""

    mdt_watch_glob: str = "/sys/kernel/debug/lustre/mdt/*-MDT????/hsm/actions"
    poll_interval_s: Seconds = msgspec.field(default=20.0, name="poll_interval")
    hold_actions_file: bool = True
    reconcile_interval_s: Seconds = msgspec.field(default=21_600.0, name="reconcile_interval")
    reconcile_schedule: str = ""
    aggressive_trim_threshold: Count = 5000
    consumer_group_backlog_max: Count = 1_000_000
    redis_host: str = DEFAULT_HOST
    redis_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = DEFAULT_PORT
    redis_db: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_DB)] = DEFAULT_DB
    redis_url: str | None = None
    redis_username: str | None = None
    redis_password_file: str | None = None
    redis_tls_ca_file: str | None = None
    redis_tls_cert_file: str | None = None
    redis_tls_key_file: str | None = None
    redis_tls_key_password_file: str | None = None
    redis_sentinel_username: str | None = None
    redis_sentinel_password_file: str | None = None
    redis_read_from: Literal["primary", "replica"] = "primary"
    redis_wait_replicas: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    redis_wait_fsync: bool = False
    redis_wait_timeout_s: Seconds = msgspec.field(default=5.0, name="redis_wait_timeout")
    redis_stream_prefix: str = DEFAULT_PREFIX
    state_dir: str = "/var/lib/hsm-shipper"
    run_dir: str = "/run/hsm-shipper"
    host: str = msgspec.field(default_factory=socket.gethostname)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_file: str | None = None
    include_raw: bool = True
    outbox_events_max: Annotated[int, msgspec.Meta(ge=0)] = 1_000_000
    outbox_bytes_max: Annotated[int, msgspec.Meta(ge=0)] = 512_000_000

    @property
    def redis_address(self) -> RedisAddress:
        """Which Redis is meant. Raises `ConfigError` for an address that cannot be used."""
        if self.redis_url is not None:
            return parse_url(self.redis_url)
        tls = any(getattr(self, key) is not None for key in TLS_KEYS)
        return address_of(self.redis_host, self.redis_port, self.redis_db, tls=tls)

    @property
    def read_from(self) -> str:
        """Whether those who only read ask the `primary` or a `replica`."""
        return str(self.redis_address.options.get("read_from", self.redis_read_from))

    @property
    def state_path(self) -> Path:
        """`state_dir` as a path."""
        return Path(self.state_dir)

    @property
    def run_path(self) -> Path:
        """`run_dir` as a path."""
        return Path(self.run_dir)


class _Key(NamedTuple):
    attribute: str
    type: Any


# What may hold a password, or be taken for the place of one: their values are in no message.
_SECRET_KEYS = frozenset({"redis_url", "redis_username", "redis_sentinel_username", *PASSWORD_FILE_KEYS})
_SECRET_WORDS = re.compile(r"pass|pw|secret|auth|cred|token|url|uri|user", re.IGNORECASE)

# By the name in the file.
KEYS: dict[str, _Key] = {f.encode_name: _Key(f.name, f.type) for f in msgspec.structs.fields(Config)}


_MOUNTPOINT = "mountpoint"
_TAKEN = KEYS | {_MOUNTPOINT: _Key(_MOUNTPOINT, str)}


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration with where it came from and what there was to remark."""

    config: Config
    file: Path | None
    warnings: tuple[str, ...]
    mountpoint: str | None = None
    """`mountpoint` of the file of an earlier tail: the `--mount` of today's."""


def load_config(file: Path | None = None, environ: Mapping[str, str] = os.environ) -> LoadedConfig:
    """Load `file` (without one: `DEFAULT_FILE` if it is there) and the environment over it.

    Raises `ConfigError` for a file that cannot be read or parsed and for any key or value that cannot be used.
    """
    if file is None and _has_default_file():
        file = DEFAULT_FILE
    warnings: list[str] = []
    values: dict[str, Any] = {}
    if file is not None:
        values |= _usable(_read(file, warnings), str(file), warnings)
    values |= _from_environment(environ, warnings)
    mountpoint = values.pop(_MOUNTPOINT, None)
    config = msgspec.convert(values, Config)
    _check(config)
    wanted = _changed(config)
    warnings += unused_keys(config, wanted)
    if config.reconcile_schedule and "reconcile_interval" in wanted:
        warnings.append("reconcile_schedule is set, so reconcile_interval is not used")
    return LoadedConfig(config, file, tuple(warnings), mountpoint)


def _changed(config: Config) -> set[str]:
    """The keys that have another value than their default: with that, which a sample file names, nothing is meant."""
    default = Config()
    return {name for name, key in KEYS.items() if getattr(config, key.attribute) != getattr(default, key.attribute)}


def _has_default_file() -> bool:
    try:
        return DEFAULT_FILE.exists()
    except OSError as error:  # its folder is closed to us: what it says is not known
        raise ConfigError(
            f"cannot read configuration {DEFAULT_FILE}: {error.strerror}", "name one with -c FILE"
        ) from None


def _read(file: Path, warnings: list[str]) -> dict[object, object]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read configuration {file}: {error.strerror}", "name one with -c FILE") from None
    except UnicodeDecodeError as error:
        raise _no_yaml(file, error) from None
    try:
        loaded = msgspec.json.decode(text)  # what the command writes for its programs: JSON is YAML
    except (msgspec.DecodeError, RecursionError):
        loaded = _from_yaml(file, text, warnings)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"configuration {file} holds a {type(loaded).__name__}", "write one 'key: value' a line")
    return loaded


def _from_yaml(file: Path, text: str, warnings: list[str]) -> object:
    import yaml  # late: 10 ms at the start of every worker, and of a tool without a file

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        warnings += (f"{file}: {twice}" for twice in _twice(node))
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"configuration {file} is no YAML: {_without_content(error)}") from None
    except yaml.YAMLError as error:  # it shows no more than a character
        raise _no_yaml(file, error) from None
    except _YAML_TRIPS_OVER:
        hint = "write what looks like one, as 0x_ or 2001-02-30, in quotes, and leave tags (!!int) and deep nesting out"
        raise ConfigError(
            f"configuration {file} is no YAML: a value is no number, date or word that can be", hint
        ) from None


def _twice(node: Any) -> Iterator[str]:
    """What to say of a key that is there again, of YAML's node of a file: the upper edit changes nothing."""
    lines: dict[str, int] = {}
    for key, _ in node.value if node is not None and node.id == "mapping" else ():
        if key.id == "scalar" and key.value in _TAKEN:
            line = key.start_mark.line + 1
            if key.value in lines:
                yield f"{key.value} stands in line {lines[key.value]} and again in line {line}: the last one counts"
            lines[key.value] = line


# Of the values of YAML's types: `0x_`, `2001-02-30`, `!!bool x`, `!!int ""`, a list in a list in a list...
_YAML_TRIPS_OVER = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, RecursionError)


def _no_yaml(file: Path, error: Exception) -> ConfigError:
    return ConfigError(f"configuration {file} is no YAML: {' '.join(str(error).split())}")


def _without_content(error: yaml.MarkedYAMLError) -> str:
    """What is wrong and where, without what stands there: the line may hold a password."""
    texts = [re.sub(r"(['\"])[^'\"]{2,}\1", "…", text) for text in (error.context, error.problem) if text]
    mark = error.problem_mark or error.context_mark
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return ": ".join(" ".join(text.split()) for text in texts) + where


def _usable(loaded: Mapping[object, object], source: str, warnings: list[str]) -> dict[str, Any]:
    values = {}
    for key, value in loaded.items():
        if key in RETIRED_KEYS:
            warnings.append(f"{source}: {key} is of no use any more and changes nothing: remove it")
        elif key in _KEYS_OF_0_1:
            hint = "files of 0.2 and later load: begin with deploy/hsm-shipper.yaml, and set redis_stream_prefix"
            raise ConfigError(f"{source}: {key!r} is a key of release 0.1.0", hint)
        elif key not in _TAKEN:
            name = str(key)
            if not re.fullmatch(r"[\w .-]{1,64}", name):
                raise ConfigError(f"{source}: an unknown key that is no name", "write one 'key: value' a line")
            raise ConfigError(f"{source}: unknown key {name!r} (value {_shown(name, value)})", _nearest(name))
        else:
            values[str(key)] = _convert(str(key), value, source)
    return values


def _from_environment(environ: Mapping[str, str], warnings: list[str]) -> dict[str, Any]:
    values = {}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX):
            continue
        key = name.removeprefix(ENV_PREFIX).lower()
        if name == ENV_PREFIX + key.upper() and key in _TAKEN:
            values[key] = _convert(key, environ[name], f"environment variable {name}")
        elif key in RETIRED_KEYS:
            warnings.append(f"environment variable {name} is of no use any more and changes nothing: remove it")
        else:
            warnings.append(f"environment variable {name} is no configuration key: {_nearest(key)}")
    return values


def _convert(key: str, value: object, source: str) -> Any:
    """`value` in the type of `key`.

    Text that says a number is that number: the environment has nothing else, and files of earlier shippers may have it
    in quotes.
    """
    if key == "log_level" and isinstance(value, str):
        value = _LOG_LEVELS.get(value.upper(), value.upper())
    try:
        return msgspec.convert(value, _TAKEN[key].type, strict=False)
    except msgspec.ValidationError as error:
        words = get_args(_TAKEN[key].type) if get_origin(_TAKEN[key].type) is Literal else ()
        hint = f"it is one of {', '.join(words)}" if words else ""
        raise ConfigError(f"{source}: {key}: {_shown(key, value)} cannot be used: {error}", hint) from None


def _shown(key: str, value: object) -> str:
    """`value` for a message, if it is sure to hold no secret; `key` may be one that we do not know."""
    text = repr(value)
    secret = key in _SECRET_KEYS or (key not in KEYS and _SECRET_WORDS.search(f"{key} {_near(key)}"))
    secret = secret or isinstance(value, dict) or re.search("@|://", text)
    return "(not shown: it may hold a password)" if secret else text


def _nearest(key: str) -> str:
    return f"the nearest known key is {_near(key)!r}"


def _near(key: str) -> str:
    near: list[str] = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)
    return near[0]


def _check(config: Config) -> None:
    """What types alone do not tell."""
    check_prefix(config.redis_stream_prefix)
    if not config.mdt_watch_glob.endswith("/hsm/actions"):
        raise ConfigError(
            f"mdt_watch_glob: {_shown('mdt_watch_glob', config.mdt_watch_glob)} does not end in '/hsm/actions'",
            "the MDT's name is read from the folder above it: '…/mdt/*-MDT????/hsm/actions'",
        )
    _check_paths(config)
    check_settings(config)
    if len(os.fsencode(config.run_dir)) > _RUN_DIR_MAX_BYTES:
        raise ConfigError(
            f"run_dir: {_shown('run_dir', config.run_dir)} is too long for a Unix socket",
            f"use a path of at most {_RUN_DIR_MAX_BYTES} bytes",
        )
    if not config.host.isprintable() or not 1 <= len(config.host) <= _HOST_MAX:
        raise ConfigError(
            f"host: {_shown('host', config.host)} cannot be used", "give the name of this metadata server"
        )
    if config.reconcile_schedule:
        from hsm_shipper.cron_expression import check_cron  # late: 80 ms that nobody without a schedule need pay

        check_cron(config.reconcile_schedule)


def _can_be_named(path: str) -> bool:
    """Whether there is such a path, and one that can be handed to the programs, as JSON: in UTF-8."""
    try:
        return b"\0" not in path.encode()
    except UnicodeEncodeError:
        return False


def _check_paths(config: Config) -> None:
    """The shipper runs in '/': all paths are absolute."""
    for key in ("mdt_watch_glob", "state_dir", "run_dir", "log_file", *FILE_KEYS):
        path = getattr(config, key)
        if path is None:
            continue
        if not path.startswith("/"):
            raise ConfigError(f"{key}: {_shown(key, path)} is not absolute", "give a path that begins with '/'")
        if not _can_be_named(path):
            raise ConfigError(f"{key}: {_shown(key, path)} cannot be used", "give a path in UTF-8, without a NUL")
        # supervisord expands '%' in paths, and ends them at a blank.
        if key not in FILE_KEYS and (not path.isprintable() or " " in path or "%" in path):
            raise ConfigError(f"{key}: {_shown(key, path)} cannot be used", "give a path without blanks and '%'")
