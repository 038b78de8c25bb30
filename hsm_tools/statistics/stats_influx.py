"""The report as InfluxDB line protocol, for Telegraf's exec input. Pure.

Tags hold the source, MDT names and plain words only, a bounded number of them; see `label_words`. Whole
numbers are integers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from hsm_shipper.process.output import printable
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.statistics.label_words import LabelWords
from hsm_tools.statistics.stats_report import ARCHIVES_MAX, Stats, by_archive, by_words, rates, times

_WORDS_MAX = 64
_HOSTS_MAX = 256
_INT64_MAX = 2**63 - 1
# Measurement and tags: in a tag only what is escaped has a backslash.
_UP_TO_FIELDS = re.compile(r"^(?:[^ \\]|\\.)*")

Value: TypeAlias = int | float | str | None


def to_lines(stats: Stats) -> str:
    """A line for each thing that is reported, all with one timestamp, and with the tags of their source."""
    timestamp = f" {int(stats.now_s * 1e9)}"
    source = "".join(f",{name}={_tag(value)}" for name, value in stats.source._asdict().items())
    return "\n".join(_UP_TO_FIELDS.sub(lambda found: found[0] + source, one, 1) + timestamp for one in _lines(stats))


def _lines(stats: Stats) -> Iterator[str]:
    words, hosts = LabelWords(_WORDS_MAX), LabelWords(_HOSTS_MAX)
    per_second = {f"events_per_second_{minutes}m": round(rate, 3) for minutes, rate in rates(stats).items()}
    yield from line(
        "hsm_summary",
        {},
        {
            "live_actions": stats.live,
            "oldest_age_seconds": stats.oldest_age_s,
            "events_replayed": stats.replayed,
            "stream_entries": stats.length,
            "malformed_entries": stats.malformed,
            **per_second,
        },
    )
    if stats.replica is not None:
        linked = None if stats.replica.is_linked is None else int(stats.replica.is_linked)
        yield from line("hsm_replica", {}, {"is_linked": linked, "silent_seconds": stats.replica.silent_s})
    # Of two points with the same tags and time InfluxDB keeps one: what is called the same is one group.
    for key, group in by_words(stats, words).items():
        yield from line(
            "hsm_live_actions",
            key._asdict(),
            {
                "count": group.count,
                "oldest_age_seconds": stats.age_s(group.oldest_first_seen),
                "oldest_status_age_seconds": stats.age_s(group.oldest_status_since),
            },
        )
    for archive_key, group in by_archive(stats, words, LabelWords(ARCHIVES_MAX)).items():
        yield from line(
            "hsm_archive_actions",
            archive_key._asdict(),
            {"count": group.count, "oldest_age_seconds": stats.age_s(group.oldest_first_seen)},
        )
    for stream in stats.streams:
        yield from _stream_lines(stats, stream, hosts)
    for one in times(stats, words):
        yield from line(
            "hsm_action_times",
            {"action": one.action, "status": one.status},
            {
                "count": len(one.durations),
                # Always with a point: a field that is an integer at one time and not at another is refused.
                **{
                    f"{name}_seconds": None if seconds is None else float(seconds)
                    for name, seconds in one.percentiles().items()
                },
            },
        )


def _stream_lines(stats: Stats, stream: LiveStream, hosts: LabelWords) -> Iterator[str]:
    yield from line(
        "hsm_stream",
        {"mdt": stream.mdt, "stream": stream.key},
        {
            "length": stream.length,
            "live_actions": stream.live_count,
            "events_replayed": stream.entries,
            "malformed_entries": stream.malformed,
            "failures": stream.tally.failures.total(),
            "last_entry_age_seconds": stats.age_s(stream.last_entry_at),
            "trouble": stream.trouble,
        },
    )
    beat = stream.heartbeat
    worker = str(stream.health(stats.now_s).state)
    if beat is None:
        yield from line("hsm_worker", {"mdt": stream.mdt}, {"worker": worker})
        return
    yield from line(
        "hsm_worker",
        {"mdt": stream.mdt, "host": hosts(beat.host)},
        {
            "worker": worker,
            "last_poll_age_seconds": stats.age_s(beat.last_poll_at),
            "last_poll_duration_seconds": beat.last_poll_duration_s,
            "last_poll_read_seconds": beat.last_poll_read_s,
            "last_error": beat.last_error,
            "failed_polls": beat.failed_polls,
            "lines": beat.lines,
            "lines_not_understood": beat.lines_not_understood,
            "backlog": beat.backlog,
            "backlog_age_seconds": stats.age_s(beat.backlog_since),
            "hsm_control": beat.hsm_control,
            "max_requests": beat.max_requests,
            "active_requests": beat.slots.active,
            "lost_slots": beat.slots.lost,
            "copytools": beat.registered_copytools,
            "copytool_errors": None
            if beat.copytools is None or beat.agents_not_understood
            else sum(it.errors for it in beat.copytools),
        },
    )


def line(measurement: str, tags: Mapping[str, str], fields: Mapping[str, Value]) -> Iterator[str]:
    """One line without its timestamp; none where no field has a value."""
    told = [f"{name}={text}" for name, value in fields.items() if (text := _field(value)) is not None]
    if told:
        yield "".join([measurement, *(f",{name}={_tag(value)}" for name, value in tags.items()), " ", ",".join(told)])


def _tag(value: str) -> str:
    # A backslash has no escape there: before a comma or at the end it would swallow what follows.
    value = printable(value).replace("\\", "/")
    for special in (",", "=", " "):
        value = value.replace(special, f"\\{special}")
    return value


def _field(value: Value) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        text = printable(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    if isinstance(value, int):
        return f"{value}i" if abs(value) <= _INT64_MAX else None
    return repr(value)
