"""The command line of `hsm-stream-tail`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import chain
from typing import Any

from hsm_shipper.errors import ConfigError
from hsm_shipper.process.command_line import CommandLine
from hsm_tools.command.colour import CHOICES
from hsm_tools.command.filters import add_filter_options, add_glob_option
from hsm_tools.command.kernel_words import STATUSES
from hsm_tools.command.options import add_connection_options, add_path_options, seconds, whole_number
from hsm_tools.tailing.since import FORMS
from hsm_tools.tailing.template import FIELDS

PROGRAM = "hsm-stream-tail"
TYPES = ("NEW", "UPDATE", "PURGED", "REFRESH")
_LINES_MAX = 10_000_000
_PATH_WAIT_MAX_S = 3600.0

_EPILOG = """\
event types:
  NEW      an action that was not in the list before
  UPDATE   its status changed
  PURGED   it left the list (hidden unless shown)
  REFRESH  nothing changed: the shipper repeats an old state so that the stream can be trimmed (hidden unless shown)

fields of --format:
{fields}

exit codes:
  0    everything was printed that was to be
  1    Redis refused, or with -n or --no-follow did not answer; or the output could not be written
  2    an option or the configuration cannot be used
  130  interrupted by Ctrl+C
  141  whoever read the output has closed it

examples:
  hsm-stream-tail                                   what happens from now on
  hsm-stream-tail -n 20                             first the last 20 events
  hsm-stream-tail --since 2h --failed --no-follow   what failed in the last two hours
  hsm-stream-tail --mdt 'elm-*' --action restore    only restores, on one file system
  hsm-stream-tail --path '/lustre/project/*'        only what is below a folder
  hsm-stream-tail --show PURGED --hide NEW,UPDATE   only what leaves the lists
  hsm-stream-tail --format '{{time}} {{status:<8}} {{path}}'
  hsm-stream-tail --run-once --json                 look once, then exit
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    fields = "\n".join(f"  {name:<12} {what}" for name, (what, _field) in FIELDS.items())
    parser = CommandLine(
        prog=PROGRAM,
        description="Print the HSM actions of all MDTs, one line an event, as they arrive.",
        epilog=_EPILOG.format(fields=fields),
    )
    _add_range_options(parser)
    _add_output_options(parser)
    group = add_filter_options(parser)
    add_glob_option(group, "--fid", "only these files, with or without brackets")
    group.add_argument(  # no comma list: names hold commas
        "--path", action="append", default=[], metavar="GLOB", help="only files whose path matches; * matches / too"
    )
    group.add_argument("--failed", action="store_true", help="only failures, each once: adds FAILED to --status")
    for option, what, words in (
        ("--show", "print events of these types too; several with commas or blanks", TYPES),
        ("--hide", "leave out events of these types, or of these statuses", TYPES + STATUSES),
    ):
        group.add_argument(
            option, action=_ExtendByEach, nargs="+", type=_words_of(words), default=[], metavar="TYPE", help=what
        )
    _add_path_options(parser)
    add_connection_options(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Complete the options by those that imply others; `ConfigError` for options that contradict each other."""
    if args.run_once and args.follow:
        raise ConfigError("--run-once and --follow contradict each other", "leave one of them out")
    if args.follow is None:
        args.follow = not args.run_once
    starts = {
        "--run-once": args.run_once,
        "--from-beginning": args.from_beginning and not args.run_once,
        "--since": args.since is not None,
        "-n": args.lines is not None,
    }
    given = [option for option, is_given in starts.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"{given[0]} and {given[1]} contradict each other", "leave one of them out")
    shown_and_hidden = sorted({*args.show} & {*args.hide})
    if shown_and_hidden:
        raise ConfigError(f"{shown_and_hidden[0]} is both in --show and in --hide", "leave it out of one of them")
    if args.path and not args.paths:
        raise ConfigError("--path needs the paths that --no-paths leaves out", "leave one of them out")
    if args.mount and not args.paths:
        raise ConfigError("--mount is of no use with --no-paths", "leave one of them out")
    if args.failed:
        args.status.append("FAILED")


def _add_range_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which part of the streams", "By default what happens from now on.")
    group.add_argument("--from-beginning", action="store_true", help="first print what the streams hold")
    group.add_argument("--since", metavar="TIME", help=f"first print what they hold since then: {FORMS}")
    group.add_argument(
        "-n",
        "--lines",
        type=whole_number(0, _LINES_MAX),
        metavar="N",
        help="first print the last N events that pass the filters",
    )
    group.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        help="go on with what arrives (the default), or end; --no-follow alone prints what the streams hold",
    )
    group.add_argument("--run-once", action="store_true", help="the same as --from-beginning --no-follow")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line: the event with stream, id and path")
    form.add_argument("--format", metavar="TEMPLATE", help="a line of your own, with the fields below in braces")
    group.add_argument(
        "--color",
        choices=CHOICES,
        default="auto",
        help="colour the status (default: on a terminal, unless NO_COLOR is set)",
    )


def _add_path_options(parser: argparse.ArgumentParser) -> None:
    about = "Files are shown by their paths where their file system is mounted and Lustre tells; else by their FIDs."
    group = add_path_options(parser, about)
    # By its name in earlier releases.
    group.add_argument("--mountpoint", dest="mount", action="append", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    group.add_argument(
        "--path-wait",
        type=seconds(0, _PATH_WAIT_MAX_S),
        default=0.5,
        metavar="SECONDS",
        help="hold an event back for its path no longer than this (default: 0.5)",
    )


def _words_of(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        found = [name.strip().upper() for name in text.split(",")]
        unknown = [name for name in found if name not in words]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(words)}")
        return found

    return parse


class _ExtendByEach(argparse.Action):
    """Adds the words of each value: they may be given with commas, as values of their own, and again."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: Any, _option: str | None = None) -> None:
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *chain.from_iterable(values)])
