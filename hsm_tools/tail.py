"""`hsm-stream-tail`: the events of every MDT as lines of text, as they arrive."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from itertools import chain
from typing import TYPE_CHECKING

from hsm_shipper.process.exit_codes import EXIT_OK, exit_code
from hsm_shipper.process.output import escape_stdout, print_err, print_out, printable
from hsm_shipper.process.termination import terminable
from hsm_tools.command.colour import colours_for_stdout
from hsm_tools.command.filters import ActionFilter, glob_matcher
from hsm_tools.command.options import load
from hsm_tools.command.remarks import Remarks
from hsm_tools.tailing.event_line import event_line
from hsm_tools.tailing.since import entry_id_before, parse_since
from hsm_tools.tailing.tail_options import PROGRAM, check, parser
from hsm_tools.tailing.template import parse_template
from hsm_tools.tailing.view import EventView, RenderLine, json_lines

if TYPE_CHECKING:  # imported late: --help needs no Redis client
    from hsm_tools.consumer import StreamEvent, StreamReader
    from hsm_tools.tailing.event_line import Facts

_remarks = Remarks(PROGRAM)

# As the tools print them, and as they are pasted; for a glob it would be a set of characters.
_FID_IN_BRACKETS = re.compile(r"\[(0x[^][:]+:[^][:]+:[^][:]+)\]")
HIDDEN_BY_DEFAULT = frozenset({"PURGED", "REFRESH"})


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns its exit code."""
    return exit_code(lambda: _run(argv), _remarks.say)


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    check(args)
    view = _view(args)
    start = None if args.since is None else entry_id_before(parse_since(args.since, time.time()))
    loaded = load(args, _remarks.say)

    from hsm_tools.consumer import StreamReader
    from hsm_tools.fid_paths.mounts import mounts_to_ask

    mounts = mounts_to_ask(args.mount, loaded.mountpoint, _remarks.say) if args.paths else {}
    escape_stdout()
    reader = StreamReader.from_config(loaded.config, refreshes=True)  # the view hides them, or not
    if args.follow:
        _announce(loaded.config.redis_stream_prefix)
    terminable()
    _tail(args, view, reader, _batches(args, view, reader, start), mounts)
    return EXIT_OK


def _view(args: argparse.Namespace) -> EventView:
    render: RenderLine
    if args.json:
        render = json_lines()
    elif args.format is not None:
        render = parse_template(args.format)
    else:
        colours = colours_for_stdout(args.color, os.environ)

        def render(event: StreamEvent, about: Facts, path: str | None) -> str:
            return event_line(event, about, path, colours)

    return EventView(
        render,
        hidden=HIDDEN_BY_DEFAULT - {*args.show} | {*args.hide},
        matches=ActionFilter.from_args(args),
        matches_fid=glob_matcher([_FID_IN_BRACKETS.sub(r"\1", glob) for glob in args.fid], ignore_case=True),
        matches_path=glob_matcher(args.path) if args.path else None,
    )


def _batches(
    args: argparse.Namespace, view: EventView, reader: StreamReader, start: str | None
) -> Iterator[list[StreamEvent]]:
    """The part of the streams that the options name."""
    from hsm_tools.tailing.feed import history, newest

    if args.lines is not None:
        last = newest(reader, args.lines, view)
        return chain(last, _after(reader)) if args.follow else last
    if args.follow:
        return reader.batches(args.from_beginning, start=start)
    return history(reader, start)


def _after(reader: StreamReader) -> Iterator[list[StreamEvent]]:
    """What follows the reading before, begun only when that is over."""
    yield from reader.batches(start=reader.position)


def _tail(
    args: argparse.Namespace,
    view: EventView,
    reader: StreamReader,
    batches: Iterator[list[StreamEvent]],
    mounts: dict[str, str],
) -> None:
    from hsm_tools.fid_paths.paths import Paths
    from hsm_tools.tailing.feed import new_inbox, read_into, show, wake

    inbox = new_inbox()
    paths = Paths(mounts, _remarks.say, lambda: wake(inbox)) if args.paths else None
    with closing(reader), closing(paths) if paths else nullcontext(), _remarks.log_to_the_end():
        read_into(inbox, batches)
        show(inbox, view, paths, args.path_wait, _remarks.say, follow=args.follow)


def _announce(prefix: str) -> None:
    banner = f"Tailing streams with prefix '{printable(prefix)}:*'. Press Ctrl+C to exit."
    tell = print_out if sys.stdout.isatty() else print_err
    tell(banner)


if __name__ == "__main__":
    sys.exit(main())
