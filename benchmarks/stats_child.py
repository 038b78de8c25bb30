"""A child that reports on the streams as `hsm-stream-stats` does: `python -m benchmarks.stats_child CONFIG`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.child import serve
from hsm_shipper.config import load_config
from hsm_shipper.process.gc_tuning import relax_collector
from hsm_tools.command.filters import ActionFilter
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_state.summary import Summaries
from hsm_tools.statistics.stats_report import ReportSource, Stats
from hsm_tools.stats import render


def main(config_file: str) -> None:
    """One report for each line of standard input; says how many entries it replayed, and how many are live."""
    config = load_config(Path(config_file), environ={}).config
    relax_collector()

    def report() -> dict[str, int]:
        streams = LiveStreams.from_config(config)
        streams.refresh()
        streams.close()
        replayed = list(streams)
        stats = Stats(time.time(), replayed, Summaries(ActionFilter()).groups(replayed), ReportSource.of(streams))
        render(stats, "json")
        return {"replayed": stats.replayed, "live": stats.live}

    serve(report)


if __name__ == "__main__":
    main(*sys.argv[1:])
