"""`hsm-stream-stats`: what is live, how streams, workers and coordinators do, and how long actions take."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsm_shipper.process.exit_codes import EXIT_FAILED, EXIT_OK, exit_code
from hsm_shipper.process.output import escape_stdout, print_out
from hsm_shipper.process.termination import terminable
from hsm_tools.command.filters import ActionFilter
from hsm_tools.command.options import jobs, load
from hsm_tools.command.remarks import Remarks
from hsm_tools.statistics.stats_options import PROGRAM, check, parser

if TYPE_CHECKING:  # imported late: --help needs no Redis client
    from pathlib import Path

    from hsm_shipper.config import Config
    from hsm_tools.live_state.follow import LiveStreams
    from hsm_tools.statistics.stats_report import Stats

_LINKS_MAX = 40  # as the kernel follows: path_resolution(7)

_remarks = Remarks(PROGRAM)


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns its exit code."""
    return exit_code(lambda: _run(argv), _remarks.say)


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    check(args)
    loaded = load(args, _remarks.say)

    from hsm_shipper.process.gc_tuning import relax_collector

    terminable()
    relax_collector()
    wanted = ActionFilter.from_args(args)
    if args.listen is not None:
        _listen(args, loaded.config, wanted)
    return _report(args, loaded.config, wanted)


def _listen(args: argparse.Namespace, config: Config, wanted: ActionFilter) -> None:
    from hsm_tools.statistics.exporter import Exporter, serve

    with _remarks.log_to_the_end():
        serve(Exporter(config, wanted, jobs(args)), args.listen, args.interval, _remarks.say)


def _report(args: argparse.Namespace, config: Config, wanted: ActionFilter) -> int:
    from hsm_tools.live_state.summary import Summaries
    from hsm_tools.statistics.stats_report import ReportSource, Stats

    replayed = _replayed(config, jobs(args))
    streams = list(replayed)
    stats = Stats(time.time(), streams, Summaries(wanted).groups(streams), ReportSource.of(replayed), replayed.replica)
    text = render(stats, args.format)
    if args.output is not None:
        write_report(args.output, f"{text}\n")
    else:
        escape_stdout()
        print_out(text)
    troubles = [stream.trouble for stream in streams if stream.trouble is not None]
    for trouble in troubles:
        _remarks.say(trouble)
    if replayed.replica is not None and replayed.replica.is_behind:
        _remarks.say(f"read from {replayed.replica}")
    return EXIT_FAILED if troubles else EXIT_OK


def write_report(file: Path, text: str) -> None:
    """Make `text` the content of `file`, or of what it links to, readable by all, or leave it as it was.

    Raises `HsmError` if it cannot be written, `ConfigError` for a path that names no ordinary file.
    """
    from hsm_shipper.errors import ConfigError, HsmError
    from hsm_shipper.process.whole_file import write_whole

    try:
        target = _behind_links(file)
        if target is None or (target.exists() and not target.is_file()):
            raise ConfigError(f"{file} is no ordinary file", "name one, or print to standard output")
        write_whole(target, text.encode(), 0o644)
    except OSError as error:
        hint = "the file is as it was: check the folder, its permissions and its room"
        raise HsmError(f"cannot write {file}: {error.strerror}", hint) from None


def _behind_links(file: Path) -> Path | None:
    """What `file` is or links to; None for what is in /dev or /proc, be it what standard output is written to.

    A file is replaced as a whole, and /dev/stdout would be, for all of this host.
    """
    for _ in range(_LINKS_MAX):
        folder = file.parent.resolve()
        if str(folder) == "/dev" or folder.parts[1:2] == ("proc",):
            return None
        if not file.is_symlink():
            return file
        file = folder / file.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _replayed(config: Config, jobs: int) -> LiveStreams:
    """The streams, read to their ends; a bar on a terminal while that takes long."""
    from hsm_tools.command.progress_bar import ProgressBar
    from hsm_tools.live_state.follow import LiveStreams

    progress = ProgressBar()
    done = 0

    def folded(entries: int) -> None:
        nonlocal done
        done += entries
        progress(done)

    streams = LiveStreams.from_config(config, on_page=folded, jobs=jobs)
    try:
        ends = streams.look()
        progress.begin("replaying the streams", sum(end.length for end in ends.values() if end is not None))
        streams.follow(ends)
    finally:
        progress.clear()
        streams.close()
    return streams


def render(stats: Stats, form: str) -> str:
    """The report in one of the formats, without a newline at its end."""
    match form:
        case "json" | "json-list":
            from hsm_tools.statistics.stats_report import to_json

            return to_json(stats, streams_as_list=form == "json-list")
        case "table":
            from hsm_tools.statistics.stats_table import to_table

            return to_table(stats)
        case "influx":
            from hsm_tools.statistics.stats_influx import to_lines

            return to_lines(stats)
        case _:
            from hsm_tools.statistics.metrics_text import to_text

            return to_text(stats)


if __name__ == "__main__":
    sys.exit(main())
