"""What everything costs over the length of a list, in processor seconds of the process that does it: a curve each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import log
from pathlib import Path

from benchmarks.child import BenchmarkError, Child, Run
from benchmarks.figures import Figure
from benchmarks.many_lists import LongListing
from benchmarks.plot import svg
from hsm_shipper.contract.redis_keys import DEFAULT_PREFIX, stream_key
from tests.simulator import SimulatedMds
from tests.support.servers import RedisServer

_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000)
_REDIS_DB = 1
_EVERY = 100  # one line of so many changes: 1 %
_SHORT_RUNS = 3
# Below, what a process needs for anything at all is most of what it takes.
_EXPONENT_FROM = 100_000
# 1 is linear. Two runs of the same differ by more than a twentieth.
_EXPONENT_AIM = 1.05

Runs = dict[str, Run]
"""A run of each thing."""


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int, plot: Path | None = None) -> list[Figure]:
    """Do everything with lists of up to `lines` lines; the least of the repetitions counts."""
    runs: dict[int, Runs] = {}
    for size in [*(size for size in _SIZES if size < lines), lines]:
        rounds = [_measure(folder / f"{size}-{number}", server, size) for number in range(repetitions)]
        runs[size] = {what: _least(each[what] for each in rounds) for what in rounds[0]}
        print(
            f"{size:,} lines: " + ", ".join(f"{what} {run.cpu_s:.3f} s" for what, run in runs[size].items()), flush=True
        )
    if plot is not None and len(runs) > 1:
        curves = {what: [(size, runs[size][what].cpu_s) for size in runs] for what in runs[lines]}
        plot.write_text(
            svg(curves, "lines of the list", "processor seconds; dashed: in proportion to the lines"), encoding="utf-8"
        )
    return list(_figures(runs))


def _measure(folder: Path, server: RedisServer, lines: int) -> Runs:
    mdt = _Mdt(folder, server, lines)
    try:
        return dict(mdt.runs())
    finally:
        shutil.rmtree(folder)


def _least(runs: Iterable[Run]) -> Run:
    return min(runs, key=lambda run: run.cpu_s)


class _Mdt:
    def __init__(self, folder: Path, server: RedisServer, lines: int) -> None:
        self._state_dir = folder / "state"
        self._state_dir.mkdir(parents=True)
        self._listing = LongListing(SimulatedMds(folder / "mds"), 0, lines)
        self._config = folder / "hsm-shipper.yaml"
        keys = {"redis_url": f"{server.url}/{_REDIS_DB}", "state_dir": str(self._state_dir), "host": "mds1"}
        self._config.write_text(json.dumps(keys))
        self._client = server.client(_REDIS_DB)

    def runs(self) -> Iterator[tuple[str, Run]]:
        mdt, lines = self._listing.mdt, self._listing.lines
        self._client.flushdb()
        with self._worker() as worker:
            yield "first ship", _poll(worker, NEW=lines)
            yield "unchanged poll", _least(_poll(worker) for _ in range(_SHORT_RUNS))
            changed = self._listing.change(_EVERY)
            yield "poll, 1 % changed all over", _poll(worker, UPDATE=changed)
        with self._worker() as worker:
            yield "first poll after a restart", _poll(worker)
        with Child("benchmarks.cycle_child", self._config, mdt) as maintenance:
            yield "reconcile and trim", _live(maintenance.run(), lines)
        self._client.delete(f"copy:{stream_key(DEFAULT_PREFIX, mdt)}")
        for path in self._state_dir.iterdir():
            path.unlink()
        with self._worker() as worker:
            yield "first poll without state", _poll(worker)
        with Child("benchmarks.stats_child", self._config) as stats:
            yield "hsm-stream-stats", _live(stats.run(), lines)
        self._client.flushdb()
        self._client.close()

    def _worker(self) -> Child:
        return Child("benchmarks.poll_child", self._config, self._listing.mdt, self._listing.path)


def _poll(worker: Child, **expected: int) -> Run:
    run = worker.run()
    if run.said != expected:
        raise BenchmarkError(f"a poll shipped {run.said}, not {expected}")
    return run


def _live(run: Run, lines: int) -> Run:
    if run.said["live"] != lines:
        raise BenchmarkError(f"{run.said} were found of {lines} live actions")
    return run


def _figures(runs: Mapping[int, Runs]) -> Iterator[Figure]:
    sizes = list(runs)
    shortest, longest = sizes[0], sizes[-1]
    for what in runs[longest]:
        for size in runs:
            yield Figure(f"{what}, {size:,} lines", "processor µs a line", [1e6 * runs[size][what].cpu_s / size])
        large = [size for size in runs if size >= _EXPONENT_FROM]
        if len(large) > 1:
            exponent = _exponent([(size, runs[size][what].cpu_s) for size in large])
            yield Figure(f"{what}: exponent", "1 is linear", [exponent], _EXPONENT_AIM)
    for what in runs[longest] if longest > shortest else ():
        least_mb, most_mb = runs[shortest][what].peak_mb, runs[longest][what].peak_mb
        yield Figure(f"{what}: memory at {longest:,} lines", "MB", [most_mb])
        yield Figure(f"{what}: memory", "bytes a line", [1e6 * (most_mb - least_mb) / (longest - shortest)])


def _exponent(points: Sequence[tuple[float, float]]) -> float:
    """Of the power of the size that fits best: the slope of a line through the logarithms."""
    logs = [(log(x), log(y)) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)
    return float(slope)
