"""`hsm-stream-tail`: the events of every MDT as lines of text, as they arrive."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from hsm_shipper.errors import ConfigError, HsmError
from hsm_tools.colour import colours_for_stdout
from hsm_tools.filters import ActionFilter, glob_matcher
from hsm_tools.options import load
from hsm_tools.output import give_up_stdout, print_out
from hsm_tools.render import event_line, printable
from hsm_tools.since import entry_id_before, parse_since
from hsm_tools.tail_options import PROGRAM, check, parser
from hsm_tools.template import parse_template
from hsm_tools.terminated import Terminated, terminable, uninterrupted
from hsm_tools.view import RenderLine, View, json_lines

if TYPE_CHECKING:  # imported late: --help needs no Redis client
    import logging

    from hsm_tools.consumer import StreamEvent, StreamReader
    from hsm_tools.render import Facts

# As the tools print them, and as they are pasted; for a glob it would be a set of characters.
_FID_IN_BRACKETS = re.compile(r"\[(0x[^][:]+:[^][:]+:[^][:]+)\]")
HIDDEN_BY_DEFAULT = frozenset({"PURGED", "REFRESH"})

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns its exit code."""
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        give_up_stdout()
        return EXIT_BROKEN_PIPE
    except Terminated as end:
        end.die()
        raise
    except HsmError as error:
        _say(str(error))
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    check(args)
    view = _view(args)
    start = None if args.since is None else entry_id_before(parse_since(args.since, time.time()))
    loaded = load(args)
    for warning in loaded.warnings:
        _say(f"warning: {warning}")

    from hsm_tools.consumer import StreamReader
    from hsm_tools.mounts import named_mounts, read_mounts

    mounts = named_mounts(args.mount, read_mounts()) if args.mount else {}
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 gets escapes, not an error
    reader = StreamReader.from_config(loaded.config)
    if args.follow:
        _announce(loaded.config.redis_stream_prefix)
    terminable()
    _tail(args, view, reader, _batches(args, view, reader, start), mounts)
    return EXIT_OK


def _view(args: argparse.Namespace) -> View:
    render: RenderLine
    if args.json:
        render = json_lines()
    elif args.format is not None:
        render = parse_template(args.format)
    else:
        colours = colours_for_stdout(args.color, os.environ)

        def render(event: StreamEvent, about: Facts, path: str | None) -> str:
            return event_line(event, about, path, colours)

    return View(
        render,
        hidden=HIDDEN_BY_DEFAULT - {*args.show} | {*args.hide},
        matches=ActionFilter.from_args(args),
        matches_fid=glob_matcher([_FID_IN_BRACKETS.sub(r"\1", glob) for glob in args.fid], ignore_case=True),
        matches_path=glob_matcher(args.path) if args.path else None,
    )


def _batches(
    args: argparse.Namespace, view: View, reader: StreamReader, start: str | None
) -> Iterator[list[StreamEvent]]:
    """The part of the streams that the options name."""
    from hsm_tools.feed import history, newest

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
    view: View,
    reader: StreamReader,
    batches: Iterator[list[StreamEvent]],
    mounts: dict[str, str],
) -> None:
    from hsm_tools.feed import new_inbox, read_into, show, wake
    from hsm_tools.paths import Paths

    inbox = new_inbox()
    paths = Paths(mounts, _say, lambda: wake(inbox)) if args.paths else None
    handler = _log_to_stderr()
    try:
        read_into(inbox, batches)
        show(inbox, view, paths, args.path_wait, _say, follow=args.follow)
    finally:
        uninterrupted()
        handler.setLevel(100)
        if paths is not None:
            paths.close()
        reader.close()


def _announce(prefix: str) -> None:
    banner = f"Tailing streams with prefix '{printable(prefix)}:*'. Press Ctrl+C to exit."
    if sys.stdout.isatty():
        print_out(banner)
    else:
        sys.stderr.write(f"{banner}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {printable(text)}\n")


def _log_to_stderr() -> logging.Handler:
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _say(self.format(record))

    logger = logging.getLogger("hsm_tools")
    handler = Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler


if __name__ == "__main__":
    sys.exit(main())
