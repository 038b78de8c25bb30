"""`hsm-action-top`: the live actions of all MDTs, as a dashboard or as frames of text."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsm_shipper.errors import ConfigError, StreamUnavailable
from hsm_shipper.process.exit_codes import EXIT_FAILED, EXIT_OK, exit_code
from hsm_shipper.process.output import LOOK_FOR_READER_S, escape_stdout, nobody_reads, print_out
from hsm_shipper.process.termination import terminable
from hsm_tools.command.filters import ActionFilter
from hsm_tools.command.options import jobs, load
from hsm_tools.command.remarks import Remarks
from hsm_tools.dashboard.top_options import PROGRAM, check, parser

if TYPE_CHECKING:  # imported late: --help needs no Redis client, and text no Textual
    from hsm_shipper.config import LoadedConfig
    from hsm_tools.dashboard.data.view_updater import ViewUpdater

ONE_LOOK = "One look at the streams"

_remarks = Remarks(PROGRAM)


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns its exit code."""
    return exit_code(lambda: _run(argv), _remarks.say)


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    check(args)
    is_text = args.run_once or args.batch
    if not is_text:
        _check_terminal()
    loaded = load(args, _remarks.say)

    import logging

    from hsm_shipper.process.gc_tuning import relax_collector
    from hsm_tools.dashboard.data.view_updater import ViewUpdater

    # What following streams would say there is in the view, and the terminal is not ours alone while it is drawn on.
    logging.getLogger("hsm_tools").addHandler(logging.NullHandler())
    relax_collector()
    updater = ViewUpdater(loaded.config, ActionFilter.from_args(args), jobs(args))
    terminable()
    if not is_text:
        return _dashboard(args, loaded, updater)
    escape_stdout()
    try:
        return _frames(updater, 1 if args.run_once else args.count, args.delay, ONE_LOOK if args.run_once else None)
    finally:
        updater.close()


def _frames(updater: ViewUpdater, count: int | None, delay_s: float, status: str | None) -> int:
    """Print `count` frames, or frames for ever; each shows what is known, as soon as that is known at all.

    Returns the exit code: `EXIT_FAILED` if the last one shows but a part, for a stream cannot be read.
    """
    from hsm_tools.dashboard.text_frame import frame

    due_s = time.monotonic()
    printed = 0
    said_until_s = 0.0
    while True:
        updater.look()
        view, now_s = updater.view, time.time()
        for at, remark in view.remarks:
            if at > said_until_s:
                said_until_s = at
                _remarks.say(remark)
        if view.state is None:
            raise StreamUnavailable(view.connection.why)
        text = frame(view.state, view.before, view.connection, status or view.status(now_s), now_s)
        print_out(f"\n{text}" if printed else text)
        printed += 1
        if printed == count:
            return EXIT_FAILED if any(mdt.trouble is not None for mdt in view.state.mdts) else EXIT_OK
        # A look that took longer than the delay is not made up for.
        due_s = max(due_s + delay_s, time.monotonic())
        _wait(due_s)


def _wait(until_s: float) -> None:
    """Wait for the next frame, which may be an hour away; `BrokenPipeError` where nobody is there to read it."""
    while (left_s := until_s - time.monotonic()) > 0:
        if nobody_reads():
            raise BrokenPipeError
        time.sleep(min(left_s, LOOK_FOR_READER_S))


def _dashboard(args: argparse.Namespace, loaded: LoadedConfig, updater: ViewUpdater) -> int:
    from hsm_tools.dashboard.app import run
    from hsm_tools.dashboard.data.update_thread import UpdateThread
    from hsm_tools.fid_paths.mounts import mounts_to_ask

    mounts = mounts_to_ask(args.mount, loaded.mountpoint, _remarks.say) if args.paths else None
    update_thread = UpdateThread(updater, args.delay)
    try:
        with _remarks.errors_afterwards():
            return run(loaded.config, update_thread, mounts)
    finally:
        update_thread.close()


def _check_terminal() -> None:
    """The dashboard takes keys from stdin and draws on stderr, for stdout is where people redirect things."""
    streams = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    redirected = [name for name, stream in streams.items() if stream is None or not stream.isatty()]
    if redirected:
        raise ConfigError(
            f"the dashboard needs a terminal, and {redirected[0]} is none", "print frames with --batch or --run-once"
        )
    if os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        raise ConfigError(
            "the dashboard needs a terminal that can be drawn on, and TERM says that this one cannot",
            "set TERM, or print frames with --batch or --run-once",
        )


if __name__ == "__main__":
    sys.exit(main())
