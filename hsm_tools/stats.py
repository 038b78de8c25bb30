"""`hsm-stream-stats`: what is live, how streams, workers and coordinators do, and how long actions take."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsm_shipper.process.output import escape_stdout, print_out
from hsm_tools.command.exit_codes import EXIT_FAILED, EXIT_OK, exit_code
from hsm_tools.command.filters import ActionFilter
from hsm_tools.command.messages import Remarks
from hsm_tools.command.options import load
from hsm_tools.command.termination import terminable, uninterrupted
from hsm_tools.statistics.stats_options import PROGRAM, check, parser

if TYPE_CHECKING:  # imported late: --help needs no Redis client
    from hsm_shipper.config import Config
    from hsm_tools.live_state.follow import LiveStreams
    from hsm_tools.statistics.stats_report import Stats

_remarks = Remarks(PROGRAM)


def main(argv: Sequence[str] | None = None) -> int:
    """The console command; returns its exit code."""
    return exit_code(lambda: _run(argv), _remarks.say)


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    check(args)
    loaded = load(args)
    for warning in loaded.warnings:
        _remarks.say(f"warning: {warning}")

    from hsm_shipper.process.gc_tuning import relax_collector

    terminable()
    relax_collector()
    wanted = ActionFilter.from_args(args)
    if args.listen is not None:
        _listen(args, loaded.config, wanted)
    return _report(args, loaded.config, wanted)


def _listen(args: argparse.Namespace, config: Config, wanted: ActionFilter) -> None:
    from hsm_tools.statistics.exporter import Exporter, serve

    handler = _remarks.log()
    try:
        serve(Exporter(config, wanted), args.listen, args.interval, _remarks.say)
    finally:
        uninterrupted()
        handler.setLevel(100)


def _report(args: argparse.Namespace, config: Config, wanted: ActionFilter) -> int:
    from hsm_tools.live_state.summary import Summaries
    from hsm_tools.statistics.stats_report import Source, Stats

    replayed = _replayed(config)
    streams = list(replayed)
    stats = Stats(time.time(), streams, Summaries(wanted).groups(streams), Source.of(replayed))
    text = render(stats, args.format)
    if args.output is not None:
        from hsm_tools.statistics.whole_file import write_whole

        write_whole(args.output, f"{text}\n")
    else:
        escape_stdout()
        print_out(text)
    troubles = [stream.trouble for stream in streams if stream.trouble is not None]
    for trouble in troubles:
        _remarks.say(trouble)
    return EXIT_FAILED if troubles else EXIT_OK


def _replayed(config: Config) -> LiveStreams:
    """The streams, read to their ends; a bar on a terminal while that takes long."""
    from hsm_tools.command.progress_bar import Progress
    from hsm_tools.live_state.follow import LiveStreams

    progress = Progress()
    done = 0

    def folded(entries: int) -> None:
        nonlocal done
        done += entries
        progress(done)

    streams = LiveStreams.from_config(config, on_page=folded)
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
