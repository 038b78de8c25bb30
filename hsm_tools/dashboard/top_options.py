"""The command line of `hsm-action-top`."""

from __future__ import annotations

import argparse

from hsm_shipper.errors import ConfigError
from hsm_shipper.process.command_line import CommandLine
from hsm_tools.command.filters import add_filter_options
from hsm_tools.command.options import (
    add_connection_options,
    add_jobs_option,
    add_path_options,
    seconds,
    whole_number,
)

PROGRAM = "hsm-action-top"
INTERVAL_S = 2.0
INTERVAL_MIN_S = 0.1
INTERVAL_MAX_S = 3600.0
_FRAMES_MAX = 1_000_000_000

_DESCRIPTION = """\
Show the live HSM actions of all MDTs as they change: how many by MDT, action and status, how old, and whether the
shippers that report them are well.
"""

_EPILOG = """\
keys (h shows them all):
  q quit   space pause   s sort, R reverse   f filter   g group by   m MDTs and shippers   + - interval
  Enter goes from a row to its actions and from an action to its history, Esc goes back

exit codes:
  0    it was quit, or everything was printed that was to be
  1    Redis refused, or did not answer at the start of --run-once or --batch; the last frame says that a stream cannot
       be read; a process that read streams was killed; or the output could not be written
  2    an option or the configuration cannot be used, or there is no terminal
  130  interrupted by Ctrl+C
  141  whoever read the output has closed it

examples:
  hsm-action-top                               the dashboard
  hsm-action-top --mdt 'elm-*' --action restore  of one file system, only restores
  hsm-action-top --run-once                    one frame as text
  hsm-action-top -b -d 60 -n 1440 >> hsm.log   a frame a minute for a day
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = CommandLine(prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    modes = parser.add_argument_group("modes", "By default the dashboard, which needs a terminal.")
    mode = modes.add_mutually_exclusive_group()
    mode.add_argument("--run-once", action="store_true", help="print one frame, and end")
    mode.add_argument("-b", "--batch", action="store_true", help="print frame after frame, for a file or a pipe")
    modes.add_argument(
        "-n",
        "--count",
        type=whole_number(1, _FRAMES_MAX),
        metavar="COUNT",
        help="with --batch: end after so many frames",
    )
    modes.add_argument(
        "-d",
        "--delay",
        type=seconds(INTERVAL_MIN_S, INTERVAL_MAX_S),
        default=INTERVAL_S,
        metavar="SECONDS",
        help=f"time from one look at the streams to the next (default: {INTERVAL_S:g})",
    )
    modes.add_argument(  # by its name in earlier releases
        "--interval",
        dest="delay",
        type=seconds(INTERVAL_MIN_S, INTERVAL_MAX_S),
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    add_filter_options(parser)
    add_path_options(parser, "In the dashboard, files are shown by their paths where Lustre tells.")
    add_jobs_option(parser)
    add_connection_options(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """`ConfigError` for options that contradict each other."""
    if args.count is not None and not args.batch:
        raise ConfigError("-n goes with --batch", "add -b")
    if args.mount and not args.paths:
        raise ConfigError("--mount is of no use with --no-paths", "leave one of them out")
