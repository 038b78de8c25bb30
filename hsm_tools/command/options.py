"""Command-line options that every tool has: which Redis, and which streams in it."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hsm_shipper.process.command_line import Retired, Version

if TYPE_CHECKING:  # imported late: a tool's --help needs neither msgspec nor Redis
    from hsm_shipper.config import LoadedConfig

_TO_STDERR = "what is wrong is said on standard error"
_LOG_OPTIONS = {"--log-level": f"{_TO_STDERR}, and nothing else is", "--log-file": f"{_TO_STDERR}: add 2>>FILE"}

_JOBS_MAX = 64
# One Redis takes a third of the time for a page that a process takes to fold it: more of them would wait for it, and
# so would the shippers.
_JOBS_DEFAULT_MAX = 4

_FILES_AND_ENVIRONMENT = """
files:
  /etc/hsm-shipper/hsm-shipper.yaml   the configuration without -c, if it is there

environment:
  HSM_<KEY>   overrides a key of the configuration, as in HSM_REDIS_HOST=redis.example.org
"""


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `load` reads, with what else it reads in the epilog, and `--version`."""
    parser.epilog = (parser.epilog or "") + _FILES_AND_ENVIRONMENT
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    group = parser.add_argument_group(
        "connection", "By default as in the configuration file and the environment (HSM_REDIS_HOST and so on)."
    )
    group.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="configuration (default: /etc/hsm-shipper/hsm-shipper.yaml)"
    )
    group.add_argument("--host", help="Redis server (default: localhost)")
    group.add_argument("--port", type=whole_number(1, 65_535), help="its port (default: 6379)")
    group.add_argument("--db", type=whole_number(0, 2**31 - 1), help="number of the database (default: 1)")
    group.add_argument("--stream-prefix", metavar="PREFIX", help="prefix of the streams (default: hsm:actions)")
    group.add_argument(
        "--redis-url",
        metavar="URL",
        help="redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// in place of host, port and db (1 if "
        "it names none); a password is better kept in the configuration's redis_password_file: other users see "
        "command lines",
    )
    for option, today in _LOG_OPTIONS.items():
        group.add_argument(option, action=Retired, nargs="?", const=today, help=argparse.SUPPRESS)


def add_jobs_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that `jobs` reads."""
    group = parser.add_argument_group("processes", "Long streams are read side by side.")
    group.add_argument(
        "--jobs",
        type=whole_number(1, _JOBS_MAX),
        metavar="N",
        help=f"in at most N processes (default: one for each processor, at most {_JOBS_DEFAULT_MAX})",
    )


def jobs(args: argparse.Namespace) -> int:
    """In how many processes streams may be read."""
    given: int | None = args.jobs
    return min(len(os.sched_getaffinity(0)), _JOBS_DEFAULT_MAX) if given is None else given


def add_path_options(parser: argparse.ArgumentParser, about: str) -> argparse._ArgumentGroup:
    """Add the options that say whether files are shown by their paths; returns their group, for more."""
    group = parser.add_argument_group("paths", about)
    group.add_argument("--no-paths", dest="paths", action="store_false", help="always show FIDs")
    group.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="[FSNAME=]DIR",
        help="where to ask for paths (default: where /proc/mounts says; repeatable)",
    )
    return group


def load(args: argparse.Namespace, say: Callable[[str], None]) -> LoadedConfig:
    """The configuration with the options over it; `ConfigError` for whatever cannot be used, and a warning said."""
    from dataclasses import replace

    from msgspec import structs

    from hsm_shipper.config import load_config
    from hsm_shipper.contract.redis_address_options import SECRET_OPTIONS
    from hsm_shipper.contract.redis_keys import check_prefix
    from hsm_shipper.errors import ConfigError
    from hsm_shipper.process.privacy import hide_argument

    loaded = load_config(args.config)
    address = {"redis_host": args.host, "redis_port": args.port, "redis_db": args.db}
    changes = {key: value for key, value in address.items() if value is not None}
    if args.redis_url is not None:
        if changes:
            raise ConfigError("--redis-url names the server already", "leave --host, --port and --db out")
        changes["redis_url"] = args.redis_url
    elif args.host is not None:
        changes["redis_url"] = None
    elif changes and loaded.config.redis_url is not None:
        raise ConfigError(
            "--port and --db do not change the configured redis_url", "give --host with them, or another --redis-url"
        )
    if args.stream_prefix is not None:
        changes["redis_stream_prefix"] = check_prefix(args.stream_prefix)
    config = structs.replace(loaded.config, **changes)
    address_options = config.redis_address.options  # raises for an address that cannot be used
    if args.redis_url is not None and SECRET_OPTIONS & address_options.keys():
        hide_argument(args.redis_url)
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    return replace(loaded, config=config)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A type for argparse: a whole number in these bounds."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return number


def seconds(least: float, most: float) -> Callable[[str], float]:
    """A type for argparse: a number of seconds in these bounds."""

    def number(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {least:g} to {most:g}")
        return found

    return number
