"""What the shipper costs a server with many MDTs on which nothing happens: supervisord, discovery and maintenance."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.processes import peak_mb, shared_out_mb
from benchmarks.running_site import POLL_INTERVAL_S, running_site
from tests.support.servers import RedisServer

_AIM_PERCENT = 2.0
_INTERVALS = 3


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int, mdts: int) -> list[Figure]:
    """Have `mdts` short lists polled, and look at what was taken of a processor in a few intervals."""
    del folder  # supervisord wants a short path
    with running_site(server, mdts, lines) as site:
        list(site.polls(1.5 * POLL_INTERVAL_S))  # what was put off at the start is done
        spans = []
        for _ in range(repetitions):
            before = site.cpu()
            count = len(list(site.polls(_INTERVALS * POLL_INTERVAL_S)))
            spans.append((site.cpu().since(before), count))
        observed_s = _INTERVALS * POLL_INTERVAL_S
        share = "% of a core"
        figures = [
            Figure(name, share, [100 * getattr(took, name) / observed_s for took, _ in spans])
            for name in ("supervisord", "discovery", "maintenance")
        ]
        together = [100 * (took.supervisord + took.discovery + took.maintenance) / observed_s for took, _ in spans]
        polls_ms = [1000 * took.workers / count for took, count in spans]
        return [
            Figure("all lists shipped, from the command on", "s", [site.first_ship_s]),
            *figures,
            Figure("these three together", share, together, _AIM_PERCENT),
            Figure("all workers", share, [100 * took.workers / observed_s for took, _ in spans]),
            Figure("a poll, and the look for its MDT each second", "processor ms", polls_ms),
            Figure("memory of a worker, at most", "MB", [max(map(peak_mb, site.worker_pids))]),
            Figure("memory of all workers, what they share counted once", "MB", [shared_out_mb(site.worker_pids)]),
        ]
