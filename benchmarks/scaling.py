"""Many MDTs with long lists on one server: are all polls in time, what do they cost, how long is Redis held?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis

from benchmarks.figures import Figure
from benchmarks.processes import cpu_s, peak_mb, worker_memory_aim_mb
from benchmarks.running_site import POLL_INTERVAL_S, RunningSite, running_site
from hsm_shipper.contract.heartbeat import Heartbeat
from tests.support.servers import RedisServer

_EVERY = 100  # one line of so many changes an interval: 1 %
_INTERVALS = 4
_LATE_S = 1.0
_SLOW_MS = 10.0
_SLOWLOG = {"slowlog-log-slower-than": "5000", "slowlog-max-len": "100000"}


def measure(folder: Path, server: RedisServer, lines: int, repetitions: int, mdts: int) -> list[Figure]:
    """Ship `mdts` lists of `lines` lines, then change 1 % of each for some intervals."""
    del folder, repetitions  # supervisord wants a short path; a run has many polls
    with server.client() as client:
        before = client.config_get("slowlog-*")
        for name, value in _SLOWLOG.items():
            client.config_set(name, value)
        try:
            empty_bytes, begun_s = client.info("memory")["used_memory"], cpu_s([server.pid])
            with running_site(server, mdts, lines) as site:
                ship_s, used_bytes = cpu_s([server.pid]) - begun_s, client.info("memory")["used_memory"]
                return [
                    Figure("all lists shipped, from the command on", "s", [site.first_ship_s]),
                    Figure("shipping", "µs of Redis an entry", [1e6 * ship_s / (mdts * lines)]),
                    Figure("Redis", "bytes a live action", [(used_bytes - empty_bytes) / (mdts * lines)]),
                    *_slow_calls("meanwhile", client),
                    *_steady(site, client),
                ]
        finally:
            for name, value in before.items():
                client.config_set(name, value)


def _steady(site: RunningSite, client: redis.Redis) -> Iterator[Figure]:
    for _ in site.polls(1.5 * POLL_INTERVAL_S):
        pass  # the first of each comes when it fits its turn
    before, beats = site.cpu(), []
    for _ in range(_INTERVALS):
        for listing in site.listings:
            listing.change(_EVERY)
        beats += list(site.polls(POLL_INTERVAL_S))
    took = site.cpu().since(before)
    observed_s = _INTERVALS * POLL_INTERVAL_S
    yield Figure("polls, 1 % of their lines changed", "s", [beat.last_poll_duration_s for beat in beats])
    late = [late_s for late_s in _lateness(beats) if late_s > _LATE_S]
    yield Figure(f"polls more than {_LATE_S:g} s late, of {len(beats)}", "polls", [len(late)], 0)
    aim = worker_memory_aim_mb(site.listings[0].lines)
    yield Figure("memory of a worker, at most", "MB", [max(map(peak_mb, site.worker_pids))], aim)
    for who, seconds in took._asdict().items():
        yield Figure(f"processor: {who}", "% of a core", [100 * seconds / observed_s])
    yield from _slow_calls("at these polls", client)


def _lateness(beats: Sequence[Heartbeat]) -> Iterator[float]:
    """How much more than an interval lies between the beginnings of two polls of an MDT, in seconds."""
    begun: dict[str, list[float]] = {}
    for beat in beats:
        begun.setdefault(beat.mdt, []).append(beat.last_poll_at - beat.last_poll_duration_s)
    for times in begun.values():
        yield from (later - earlier - POLL_INTERVAL_S for earlier, later in pairwise(times))


def _slow_calls(when: str, client: redis.Redis) -> Iterator[Figure]:
    calls: Sequence[Mapping[str, Any]] = client.slowlog_get(int(_SLOWLOG["slowlog-max-len"]))
    durations_ms = [call["duration"] / 1000 for call in calls if b"CONFIG" not in call["command"]]
    client.slowlog_reset()
    slow = sum(duration_ms > _SLOW_MS for duration_ms in durations_ms)
    yield Figure(f"calls that held Redis for more than {_SLOW_MS:g} ms, {when}", "calls", [slow])
    if durations_ms:
        yield Figure(f"the longest of them, {when}", "ms", [max(durations_ms)])
