"""What `hsm-stream-stats` reports, and its JSON. Pure functions of the streams as they were last refreshed.

Keys end in their units, as in the summary that earlier tools of this family printed; ages are whole seconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_tools.command.kernel_words import STARTED
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.live_state.summary import ActionGroup, GroupKey, arrivals, oldest_first_seen
from hsm_tools.live_state.tally import Arrivals, Durations
from hsm_tools.statistics.label_words import LabelWords

if TYPE_CHECKING:
    from hsm_tools.reader.replica import ReplicaState

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
RATE_MINUTES = (1, 5, 60)
# As labels of metrics; the ids are 32 bits wide.
ARCHIVES_MAX = 64


class StatusKey(NamedTuple):
    """By what live actions are counted in the breakdown."""

    mdt: str
    action: str
    status: str


class ReportSource(NamedTuple):
    """Where the streams are: it tells a report from one on other streams, whose MDTs may have the same names."""

    redis: str
    """The address of the server and its database as they are configured, without user and password."""
    prefix: str

    @classmethod
    def of(cls, streams: LiveStreams) -> ReportSource:
        """The source of what `streams` tells."""
        return cls(streams.address, streams.prefix)


class Stats(NamedTuple):
    """The streams, and their live actions that are wanted, at `now_s` (seconds since the epoch)."""

    now_s: float
    streams: list[LiveStream]
    groups: dict[GroupKey, ActionGroup]
    source: ReportSource
    replica: ReplicaState | None = None
    """The replica that all this was read from; None for the primary."""

    @property
    def by_status(self) -> dict[StatusKey, ActionGroup]:
        """The same whatever the archive."""
        found: dict[StatusKey, ActionGroup] = {}
        for key, group in self.groups.items():
            found.setdefault(StatusKey(*key[:3]), ActionGroup()).add(group)
        return found

    @property
    def live(self) -> int:
        """How many live actions are wanted."""
        return sum(group.count for group in self.groups.values())

    @property
    def oldest_age_s(self) -> int | None:
        """Age of the oldest of them; None if none is known."""
        return self.age_s(oldest_first_seen(self.groups.values()))

    @property
    def length(self) -> int:
        """Entries of all streams."""
        return sum(stream.length for stream in self.streams)

    @property
    def replayed(self) -> int:
        """Entries folded to know what is live."""
        return sum(stream.entries for stream in self.streams)

    @property
    def malformed(self) -> int:
        """Entries among these that were no events."""
        return sum(stream.malformed for stream in self.streams)

    def age_s(self, since: float | None) -> int | None:
        """Whole seconds since then, 0 for what is yet to come."""
        return None if since is None else max(0, int(self.now_s - since))


class Times(NamedTuple):
    """How long actions took from when they were first seen until they had a status, in seconds."""

    action: str
    status: str
    durations: Durations

    def percentiles(self) -> dict[str, float | None]:
        """By the names of `PERCENTILES`."""
        return dict(zip(PERCENTILES, self.durations.percentiles(PERCENTILES.values()), strict=True))


class ArchiveKey(NamedTuple):
    """By what live actions are counted where the archive counts; all of it fit for labels of metrics."""

    mdt: str
    archive: str
    action: str
    status: str


def by_archive(stats: Stats, words: LabelWords, archives: LabelWords) -> dict[ArchiveKey, ActionGroup]:
    """The live actions that are wanted by archive; few archives and words, as these let pass."""
    found: dict[ArchiveKey, ActionGroup] = {}
    for (mdt, action, status, archive_id), group in stats.groups.items():
        archive = archives(None if archive_id is None else str(archive_id))
        found.setdefault(ArchiveKey(mdt, archive, words(action), words(status)), ActionGroup()).add(group)
    return found


def by_words(stats: Stats, words: LabelWords) -> dict[StatusKey, ActionGroup]:
    """The live actions that are wanted by action and status; few words, as these let pass."""
    found: dict[StatusKey, ActionGroup] = {}
    for (mdt, action, status), group in stats.by_status.items():
        found.setdefault(StatusKey(mdt, words(action), words(status)), ActionGroup()).add(group)
    return found


def times(stats: Stats, words: Callable[[str], str] = str) -> list[Times]:
    """Of all streams together, for as long back as they reach; the start first, then how it ended.

    `words` says what actions are called.
    """
    merged: dict[tuple[str, str], Durations] = {}
    for stream in stats.streams:
        for (action, status), durations in stream.tally.durations.items():
            merged.setdefault((words(action), status), Durations()).merge(durations)
    found = [Times(action, status, durations) for (action, status), durations in merged.items()]
    return sorted(found, key=lambda one: (one.action, one.status != STARTED, one.status))


def rates(stats: Stats) -> dict[int, float]:
    """Entries per second of all streams, over the last so many minutes; the last ten seconds do not count yet."""
    counts = arrivals(stats.streams, stats.now_s)
    return {minutes: sum(counts[-minutes * 60 // Arrivals.STEP_S :]) / (minutes * 60) for minutes in RATE_MINUTES}


def to_json(stats: Stats, *, streams_as_list: bool) -> str:
    """The report as one JSON object; ASCII only, so that nothing in it is fit to harm a terminal."""
    return json.dumps(report(stats, streams_as_list=streams_as_list), indent=2)


def report(stats: Stats, *, streams_as_list: bool) -> dict[str, Any]:
    """The report in plain objects."""
    streams = [(stream.key, _stream(stats, stream)) for stream in stats.streams]
    return {
        "summary": {
            "total_live_actions": stats.live,
            "oldest_live_action_age_seconds": stats.oldest_age_s,
            "total_events_replayed": stats.replayed,
            "total_stream_entries": stats.length,
            "streams": [{"stream": key} | told for key, told in streams] if streams_as_list else dict(streams),
            "malformed_entries": stats.malformed,
            "events_per_second": {f"{minutes}m": round(rate, 3) for minutes, rate in rates(stats).items()},
            "generated_at": int(stats.now_s),
            **stats.source._asdict(),
            "replica": None if stats.replica is None else _replica(stats.replica),
        },
        "breakdown": [key._asdict() | {"count": group.count} for key, group in stats.by_status.items()],
        "oldest": list(_oldest(stats)),
        "archives": list(_archives(stats)),
        "times": [_times(one) for one in times(stats)],
        "failures": list(_failures(stats.streams)),
    }


def _replica(replica: ReplicaState) -> dict[str, Any]:
    return {
        "server": replica.server,
        "is_linked": replica.is_linked,
        "silent_seconds": replica.silent_s,
    }


def _stream(stats: Stats, stream: LiveStream) -> dict[str, Any]:
    health = stream.health(stats.now_s)
    return {
        "length": stream.length,
        "mdt": stream.mdt,
        "live_actions": stream.live_count,
        "events_replayed": stream.entries,
        "malformed_entries": stream.malformed,
        "first_entry_age_seconds": stats.age_s(stream.first_entry_at),
        "last_entry_age_seconds": stats.age_s(stream.last_entry_at),
        "trouble": stream.trouble,
        "worker": str(health.state),
        "worker_troubles": health.troubles,
        "heartbeat": None if stream.heartbeat is None else _heartbeat(stats, stream.heartbeat),
    }


def _heartbeat(stats: Stats, beat: Heartbeat) -> dict[str, Any]:
    copytools = beat.copytools
    return {
        "host": beat.host,
        "last_poll_age_seconds": stats.age_s(beat.last_poll_at),
        "last_poll_duration_seconds": beat.last_poll_duration_s,
        "last_poll_read_seconds": beat.last_poll_read_s,
        "poll_interval_seconds": beat.poll_interval_s,
        "last_error": beat.last_error,
        "failed_polls": beat.failed_polls,
        "lines": beat.lines,
        "lines_not_understood": beat.lines_not_understood,
        "live": beat.live,
        "backlog": beat.backlog,
        "backlog_age_seconds": stats.age_s(beat.backlog_since),
        "hsm_control": beat.hsm_control,
        "max_requests": beat.max_requests,
        "archive_count": beat.archive_count,
        "restore_count": beat.restore_count,
        "remove_count": beat.remove_count,
        "lost_slots": beat.slots.lost,
        "lost_slots_age_seconds": stats.age_s(beat.slots_lost_since),
        "grace_delay_seconds": beat.grace_delay_s,
        "loop_period_seconds": beat.loop_period_s,
        "copytools": None if copytools is None else msgspec.to_builtins(copytools),
        "copytools_not_understood": beat.agents_not_understood,
    }


def _oldest(stats: Stats) -> Iterator[dict[str, Any]]:
    for key, group in stats.by_status.items():
        yield key._asdict() | _ages(stats, group)


def _archives(stats: Stats) -> Iterator[dict[str, Any]]:
    for key, group in stats.groups.items():
        yield key._asdict() | {"count": group.count} | _ages(stats, group)


def _ages(stats: Stats, group: ActionGroup) -> dict[str, Any]:
    return {
        "age_seconds": stats.age_s(group.oldest_first_seen),
        "status_age_seconds": stats.age_s(group.oldest_status_since),
    }


def _times(one: Times) -> dict[str, Any]:
    return {
        "action": one.action,
        "status": one.status,
        "count": len(one.durations),
        "mean_seconds": round(one.durations.total_s / len(one.durations), 1),
        **{f"{name}_seconds": seconds for name, seconds in one.percentiles().items()},
    }


def _failures(streams: Iterable[LiveStream]) -> Iterator[dict[str, Any]]:
    for stream in streams:
        failures: Counter[str] = stream.tally.failures
        for action in sorted(failures):
            yield {"mdt": stream.mdt, "action": action, "count": failures[action]}
