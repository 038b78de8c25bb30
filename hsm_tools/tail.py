"""`hsm-stream-tail`: the events of every MDT as lines of text, as they arrive."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsm_shipper.errors import ConfigError, HsmError
from hsm_tools.options import add_connection_options, load
from hsm_tools.output import give_up_stdout, print_out
from hsm_tools.render import event_line, printable

if TYPE_CHECKING:  # imported late: --help needs no Redis client
    from hsm_tools.consumer import StreamEvent, StreamReader

PROGRAM = "hsm-stream-tail"
TYPES = ("NEW", "UPDATE", "PURGED", "REFRESH")
HIDDEN_BY_DEFAULT = frozenset({"PURGED", "REFRESH"})

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_EPILOG = """\
event types:
  NEW      an action that was not in the list before
  UPDATE   its status changed
  PURGED   it left the list (hidden unless shown)
  REFRESH  nothing changed: the shipper repeats an old state so that the stream can be trimmed (hidden unless shown)

exit codes:
  0    --run-once has printed everything
  1    Redis refused, or with --run-once did not answer; or the output could not be written
  2    an option or the configuration cannot be used
  130  interrupted by Ctrl+C
  141  whoever read the output has closed it

examples:
  hsm-stream-tail                                   what happens from now on
  hsm-stream-tail --from-beginning                  first what the streams hold
  hsm-stream-tail --show PURGED --hide NEW,UPDATE   only what leaves the lists
  hsm-stream-tail --run-once | grep FAILED          look once, then exit
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns its exit code."""
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        give_up_stdout()
        return EXIT_BROKEN_PIPE
    except HsmError as error:
        _say(str(error))
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Print the HSM actions of all MDTs, one line an event, as they arrive.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--from-beginning", action="store_true", help="first print what the streams hold")
    parser.add_argument("--run-once", action="store_true", help="print what the streams hold, and exit")
    for option, what in (("--show", "print events of these types too"), ("--hide", "leave out events of these types")):
        parser.add_argument(
            option, action="extend", type=_types, default=[], metavar="TYPE[,TYPE]", help=f"{what} (repeatable)"
        )
    add_connection_options(parser)
    return parser


def event_type(event: StreamEvent) -> str:
    """The type by which an event is shown or hidden."""
    kind = event.data.get("event_type")
    return "REFRESH" if kind == "UPDATE" and event.data.get("refresh") is True else str(kind)


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    contradiction = sorted({*args.show} & {*args.hide})
    if contradiction:
        raise ConfigError(f"{contradiction[0]} is both in --show and in --hide", "leave it out of one of them")
    loaded = load(args)
    for warning in loaded.warnings:
        _say(f"warning: {warning}")

    from hsm_tools.consumer import StreamReader

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 gets escapes, not an error
    _log_to_stderr()
    reader = StreamReader.from_config(loaded.config)
    if args.run_once:
        reader.streams()  # which fails where the reader would wait for ever
    else:
        _announce(loaded.config.redis_stream_prefix)
    hidden = HIDDEN_BY_DEFAULT - {*args.show} | {*args.hide}
    _print_events(reader, args.from_beginning, args.run_once, hidden)
    return EXIT_OK


def _print_events(reader: StreamReader, from_beginning: bool, run_once: bool, hidden: frozenset[str]) -> None:
    """Print batch by batch; for ever, or until the first pause with `run_once`."""
    for batch in reader.batches(from_beginning or run_once, block_ms=1 if run_once else 0):
        if not batch:
            return
        lines = [event_line(event) for event in batch if event_type(event) not in hidden]
        if lines:
            print_out("\n".join(lines))


def _announce(prefix: str) -> None:
    banner = f"Tailing streams with prefix '{printable(prefix)}:*'. Press Ctrl+C to exit."
    if sys.stdout.isatty():
        print_out(banner)
    else:
        sys.stderr.write(f"{banner}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {printable(text)}\n")


def _log_to_stderr() -> None:
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _say(self.format(record))

    logger = logging.getLogger("hsm_tools")
    logger.addHandler(Handler())
    logger.setLevel(logging.INFO)


def _types(text: str) -> list[str]:
    types = [name.strip().upper() for name in text.split(",")]
    unknown = [name for name in types if name not in TYPES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(TYPES)}")
    return types


if __name__ == "__main__":
    sys.exit(main())
