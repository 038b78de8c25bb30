"""The metrics once, as text, for node_exporter's textfile collector. Pure."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hsm_tools.statistics.metrics import MetricsMaker, labelled, of_refresh
from hsm_tools.statistics.stats_report import Stats


class _Metrics(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def to_text(stats: Stats) -> str:
    """Gauges only: what a stream still holds shrinks when it is trimmed, and so is no counter."""
    registry = CollectorRegistry()
    metrics = [*of_refresh(True, stats.now_s, None), *MetricsMaker().make(stats, counting=False)]
    registry.register(_Metrics(labelled(metrics, stats.source)))
    return generate_latest(registry).decode().rstrip("\n")
