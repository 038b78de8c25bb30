"""The command line of `hsm-stream-stats`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

from hsm_shipper.contract.redis_address import unfit_label
from hsm_shipper.errors import ConfigError
from hsm_shipper.process.command_line import CommandLine
from hsm_tools.command.filters import add_filter_options
from hsm_tools.command.options import add_connection_options, add_jobs_option, seconds

PROGRAM = "hsm-stream-stats"
FORMATS = ("json", "json-list", "table", "prometheus", "influx")
LOOPBACK = "127.0.0.1"
_INTERVAL_DEFAULT_S = 15.0
_INTERVAL_MAX_S = 3600.0
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")

_DESCRIPTION = """\
Replay the streams and report what is live, by MDT, action, status and archive; what the streams, their workers and
coordinators say of themselves; and how long actions take. With --listen: serve it to Prometheus, kept up to date.
"""

_EPILOG = f"""\
formats:
  json         one JSON object (the default)
  json-list    the same, with `streams` as a list: for Telegraf's json_v2
  table        for people, 80 columns wide
  prometheus   for node_exporter's textfile collector, with -o
  influx       line protocol, for Telegraf's exec input

Filters choose which live actions are counted. What is said of streams, workers, times and failures is of all.
Ages count from when a shipper first saw an action. They and the rates take the clocks of this host, the Redis server
and the metadata servers to agree.

--listen serves http://ADDR:PORT/metrics. Without ADDR it listens on {LOOPBACK} only: what it tells is for anybody who
can connect. 0.0.0.0 or [::] is every address of this host. PORT 0 takes a free one, and says which.

exit codes:
  0    the report is complete
  1    Redis does not answer or refuses, a stream could not be read, a process that read streams was killed, the output
       could not be written, or the address could not be listened on
  2    an option or the configuration cannot be used
  130  interrupted by Ctrl+C
  141  whoever read the output has closed it

examples:
  hsm-stream-stats                                  everything, as JSON
  hsm-stream-stats --format table                   for a look
  hsm-stream-stats --jobs 1                         in one process, also of many long streams
  hsm-stream-stats --mdt 'elm-*' --action restore   only live restores of one file system
  hsm-stream-stats --format prometheus -o /var/lib/prometheus/node-exporter/hsm.prom
  hsm-stream-stats --listen :9879                   for a Prometheus on this host
  hsm-stream-stats --listen 0.0.0.0:9879            for one elsewhere
"""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        """As in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = CommandLine(prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=FORMATS, help="how it is reported (default: json)")
    group.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write FILE, complete or not at all, in place of printing"
    )
    group.add_argument("--listen", type=address, metavar="[ADDR]:PORT", help="serve Prometheus metrics until stopped")
    group.add_argument(
        "--interval",
        type=seconds(0.1, _INTERVAL_MAX_S),
        metavar="SECONDS",
        help="with --listen: between two looks (default: 15)",
    )
    add_filter_options(parser)
    add_jobs_option(parser)
    add_connection_options(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Fill in defaults; `ConfigError` for options that contradict each other."""
    if args.listen is None and args.interval is not None:
        raise ConfigError("--interval goes with --listen")
    if args.listen is not None and (args.output is not None or args.format not in (None, "prometheus")):
        raise ConfigError("--listen serves Prometheus metrics", "leave --format and -o out")
    args.format = args.format or "json"
    args.interval = args.interval or _INTERVAL_DEFAULT_S


def address(text: str) -> Address:
    """`[ADDR]:PORT` for argparse, an IPv6 address in brackets."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not [ADDR]:PORT, as in :9879, 10.0.0.1:9879 or [::1]:9879")
    host = match["ipv6"] or match["host"] or LOOPBACK
    if (why := unfit_label(host)) is not None:
        raise argparse.ArgumentTypeError(f"{host!r} cannot be looked up: {why}")
    return Address(host, int(match["port"]))
