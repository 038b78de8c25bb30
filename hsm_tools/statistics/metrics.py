"""The Prometheus metrics: names, help and values, the same for `--listen` and `--format prometheus`.

Labels hold the source, MDT names and, by way of `label_words`, a bounded number of plain words: a
stream full of nonsense makes a bounded number of series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TypeAlias, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_tools.command.kernel_words import ACTIONS, STARTED
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.live_state.tally import Durations
from hsm_tools.reader.replica import ReplicaState
from hsm_tools.statistics.label_words import LabelWords
from hsm_tools.statistics.stats_report import ARCHIVES_MAX, ArchiveKey, ReportSource, Stats, by_archive, by_words

_MDT = ("mdt",)
# From the shortest that a poll tells apart to the week that a tape library out of order takes.
BUCKETS_S = (10, 30, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 604_800)
# Further words than the kernel's own for actions and statuses; servers that have shipped.
_WORDS_MAX = 16
_HOSTS_MAX = 256

Number: TypeAlias = float | int | None
T = TypeVar("T")

_OF_STREAM: dict[str, tuple[str, Callable[[LiveStream], Number]]] = {
    "hsm_stream_length_entries": ("Entries that the stream holds.", lambda it: it.length),
    "hsm_stream_live_actions": ("Live actions of the MDT, whatever the filters.", lambda it: it.live_count),
    "hsm_stream_malformed_entries": ("Entries among those replayed that are no events.", lambda it: it.malformed),
    "hsm_stream_first_entry_timestamp_seconds": (
        "When the oldest entry was appended.",
        lambda it: it.first_entry_at,
    ),
    "hsm_stream_last_entry_timestamp_seconds": (
        "When the newest entry was appended.",
        lambda it: it.last_entry_at,
    ),
    "hsm_stream_readable": ("1 if the stream was read, 0 if that was refused.", lambda it: it.trouble is None),
    "hsm_worker_up": (
        "1 if there is a heartbeat, 0 if no worker polls the MDT, or it hangs, or cannot reach Redis.",
        lambda it: None if it.heartbeat_trouble is not None else it.heartbeat is not None,
    ),
    "hsm_worker_heartbeat_readable": (
        "0 if the heartbeat may not be read or does not decode, and hsm_worker_up is not known; else 1.",
        lambda it: it.heartbeat_trouble is None,
    ),
}
_OF_HEARTBEAT: dict[str, tuple[str, Callable[[Heartbeat], Number]]] = {
    "hsm_worker_last_poll_timestamp_seconds": ("When the MDT was last polled.", lambda it: it.last_poll_at),
    "hsm_worker_last_poll_duration_seconds": ("How long that took.", lambda it: it.last_poll_duration_s),
    "hsm_worker_last_poll_read_seconds": (
        "How much of that the kernel took to give the list.",
        lambda it: it.last_poll_read_s,
    ),
    "hsm_worker_poll_interval_seconds": ("From poll to poll.", lambda it: it.poll_interval_s),
    "hsm_worker_last_poll_failed": ("1 if the last poll failed.", lambda it: it.last_error is not None),
    "hsm_worker_listed_lines": ("Lines of the actions file.", lambda it: it.lines),
    "hsm_worker_not_understood_lines": (
        "Lines of the actions file that are not understood, and not shipped.",
        lambda it: it.lines_not_understood,
    ),
    "hsm_worker_backlog_changes": (
        "Changes seen in the actions file and not in the stream yet.",
        lambda it: it.backlog,
    ),
    "hsm_worker_backlog_since_timestamp_seconds": (
        "When the first of them was seen that waits for Redis; none where none does.",
        lambda it: it.backlog_since,
    ),
    "hsm_coordinator_max_requests": ("The coordinator's max_requests.", lambda it: it.max_requests),
    "hsm_coordinator_lost_slots": (
        "Active requests that no copytool works on, where no slot is left; on a busy coordinator for moments.",
        lambda it: it.slots.lost,
    ),
    "hsm_coordinator_grace_delay_seconds": ("The coordinator's grace_delay.", lambda it: it.grace_delay_s),
    "hsm_coordinator_loop_period_seconds": ("The coordinator's loop_period.", lambda it: it.loop_period_s),
    "hsm_copytools": (
        "Copytools that are registered.",
        lambda it: it.registered_copytools,
    ),
    "hsm_copytool_running_requests": ("Requests that the copytools work on.", lambda it: it.slots.worked_on),
}


class MetricsMaker:
    """Makes metrics of the streams; keeps what a series of makings must share."""

    def __init__(self) -> None:
        self._words = LabelWords(_WORDS_MAX)
        self._hosts = LabelWords(_HOSTS_MAX)
        self._states = LabelWords(_WORDS_MAX)
        self._archives = LabelWords(ARCHIVES_MAX)

    def make(self, stats: Stats, *, counting: bool) -> list[Metric]:
        """The metrics of the streams; `counting`: with those that only a program that keeps running can count."""
        beats = [(stream.mdt, stream.heartbeat) for stream in stats.streams if stream.heartbeat is not None]
        streams = _gauges(_OF_STREAM, [(stream.mdt, stream) for stream in stats.streams])
        found = [
            *_of_replica(stats.replica),
            *self._live(stats),
            *streams,
            *_gauges(_OF_HEARTBEAT, beats),
            *self._workers(beats),
        ]
        return [*found, *self._counted(stats.streams)] if counting else found

    def _live(self, stats: Stats) -> Iterator[Metric]:
        labels = ("mdt", "action", "status")
        count = GaugeMetricFamily("hsm_live_actions", "Live actions.", labels=labels)
        first_seen = GaugeMetricFamily(
            "hsm_oldest_live_action_first_seen_timestamp_seconds",
            "When the oldest of the live actions was first seen.",
            labels=labels,
        )
        status_since = GaugeMetricFamily(
            "hsm_oldest_live_action_status_since_timestamp_seconds",
            "When that status of them began that has lasted longest.",
            labels=labels,
        )
        for values, group in by_words(stats, self._words).items():
            count.add_metric(values, group.count)
            _add(first_seen, values, group.oldest_first_seen)
            _add(status_since, values, group.oldest_status_since)
        yield from (count, first_seen, status_since, self._of_archives(stats))

    def _of_archives(self, stats: Stats) -> Metric:
        count = GaugeMetricFamily(
            "hsm_archive_live_actions",
            "Live actions by the archive that they are for; unknown where the stream does not tell it.",
            labels=ArchiveKey._fields,
        )
        for key, group in by_archive(stats, self._words, self._archives).items():
            count.add_metric(key, group.count)
        return count

    def _workers(self, beats: Iterable[tuple[str, Heartbeat]]) -> Iterator[Metric]:
        worker = InfoMetricFamily("hsm_worker", "Which server polls the MDT.")
        state = GaugeMetricFamily(
            "hsm_coordinator_state", "1 for the state that hsm_control tells.", labels=("mdt", "state")
        )
        active = GaugeMetricFamily(
            "hsm_coordinator_active_requests",
            "Requests that the coordinator takes for being worked on, by its counts.",
            labels=("mdt", "action"),
        )
        ended = GaugeMetricFamily(
            "hsm_copytool_ended_requests",
            "Requests that the copytools registered now have ended since each registered, by how.",
            labels=("mdt", "result"),
        )
        failed = CounterMetricFamily(
            "hsm_worker_failed_polls", "Polls that failed since the worker began.", labels=_MDT
        )
        for mdt, beat in beats:
            worker.add_metric((), {"mdt": mdt, "host": self._hosts(beat.host)})
            if beat.failed_polls is not None:
                failed.add_metric((mdt,), beat.failed_polls)
            if beat.hsm_control is not None:
                state.add_metric((mdt, self._states(beat.hsm_control)), 1)
            _add(active, (mdt, "ARCHIVE"), beat.archive_count)
            _add(active, (mdt, "RESTORE"), beat.restore_count)
            _add(active, (mdt, "REMOVE"), beat.remove_count)
            if beat.copytools is not None and not beat.agents_not_understood:
                _add(ended, (mdt, "ok"), sum(copytool.ok for copytool in beat.copytools))
                _add(ended, (mdt, "error"), sum(copytool.errors for copytool in beat.copytools))
        yield from (worker, failed, state, active, ended)

    def _counted(self, streams: Iterable[LiveStream]) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "hsm_stream_events",
            "Events that arrived; REFRESH is an UPDATE that repeats an old state, a PURGED has the last status.",
            labels=("mdt", "event_type", "action", "status"),
        )
        failures = CounterMetricFamily(
            "hsm_action_failures", "Times that an action became FAILED.", labels=("mdt", "action")
        )
        malformed = CounterMetricFamily("hsm_malformed_entries", "Entries that arrived and are no events.", labels=_MDT)
        wait = HistogramMetricFamily(
            "hsm_action_start_wait_seconds",
            "From when an action was first seen until it was STARTED.",
            labels=("mdt", "action"),
        )
        duration = HistogramMetricFamily(
            "hsm_action_duration_seconds",
            "From when an action was first seen until it ended, by its final status.",
            labels=("mdt", "action", "status"),
        )
        for stream in streams:
            self._add_events(events, stream)
            # From the first scrape on, so that the first failure counts as an increase.
            failed = Counter(dict.fromkeys(ACTIONS, 0))
            for action, count in stream.tally.failures.items():
                failed[self._words(action)] += count
            for action, count in failed.items():
                failures.add_metric((stream.mdt, action), count)
            malformed.add_metric((stream.mdt,), stream.tally.malformed)
            self._add_durations(wait, duration, stream)
        yield from (events, failures, malformed, wait, duration)

    def _add_events(self, events: CounterMetricFamily, stream: LiveStream) -> None:
        counts: Counter[tuple[str, ...]] = Counter()
        for (event_type, action, status), count in stream.tally.events.items():
            counts[stream.mdt, event_type, self._words(action), self._words(status)] += count
        for values, count in counts.items():
            events.add_metric(values, count)

    def _add_durations(self, wait: HistogramMetricFamily, ended: HistogramMetricFamily, stream: LiveStream) -> None:
        found: dict[tuple[str, str], Durations] = {}
        for (action, status), durations in stream.tally.durations.items():
            found.setdefault((self._words(action), status), Durations()).merge(durations)
        for (action, status), durations in found.items():
            buckets = [(str(float(limit_s)), durations.at_most(limit_s)) for limit_s in BUCKETS_S]
            buckets.append(("+Inf", len(durations)))
            if status == STARTED:
                wait.add_metric((stream.mdt, action), buckets, durations.total_s)
            else:
                ended.add_metric((stream.mdt, action, status), buckets, durations.total_s)


def of_refresh(is_up: bool | None, refreshed_at_s: float, duration_s: float | None) -> list[Metric]:
    """The metrics of a look at Redis: whether it answers (None: not known yet), when it last did, how long that took.

    `refreshed_at_s` is seconds since the epoch, 0 for never.
    """
    build = InfoMetricFamily("hsm_exporter_build", "Which release tells this.")
    build.add_metric((), {"version": version("lustre-hsm-action-stream")})
    up = GaugeMetricFamily("hsm_redis_up", "1 if the last look at Redis succeeded, 0 if all the rest is from before.")
    refreshed = GaugeMetricFamily(
        "hsm_exporter_last_refresh_timestamp_seconds", "When the streams were last read; 0 for not yet."
    )
    duration = GaugeMetricFamily("hsm_exporter_refresh_duration_seconds", "How long that took.")
    for family, value in ((up, is_up), (refreshed, refreshed_at_s), (duration, duration_s)):
        _add(family, (), value)
    return [build, up, refreshed, duration]


def _of_replica(replica: ReplicaState | None) -> list[Metric]:
    linked = GaugeMetricFamily(
        "hsm_redis_replica_linked",
        "1 if the replica that is read from is connected to its primary; no sample where a primary is read.",
    )
    silent = GaugeMetricFamily(
        "hsm_redis_replica_silent_seconds", "Since it has heard of its primary: what it says is no older."
    )
    if replica is not None:
        _add(linked, (), replica.is_linked)
        _add(silent, (), replica.silent_s)
    return [linked, silent]


def labelled(metrics: Iterable[Metric], source: ReportSource) -> list[Metric]:
    """`metrics` with the labels of their source on every sample.

    On every one, also of those with an `mdt`: two text files beside each other may tell of two file systems of one
    name, and of a series that comes twice node_exporter serves either one, and tells nobody but its log.
    """
    told = list(metrics)
    for metric in told:
        metric.samples = [sample._replace(labels={**source._asdict(), **sample.labels}) for sample in metric.samples]
    return told


def _gauges(
    values: Mapping[str, tuple[str, Callable[[T], Number]]], by_mdt: Sequence[tuple[str, T]]
) -> Iterator[Metric]:
    """A gauge for each of `values`, with a sample for each MDT."""
    for name, (explanation, value) in values.items():
        family = GaugeMetricFamily(name, explanation, labels=_MDT)
        for mdt, told in by_mdt:
            _add(family, (mdt,), value(told))
        yield family


def _add(family: GaugeMetricFamily, labels: Sequence[str], value: Number) -> None:
    """Add a sample if there is a value; what no double holds is no value either."""
    if value is None:
        return
    try:
        family.add_metric(labels, float(value))
    except OverflowError:
        return
