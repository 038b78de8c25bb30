"""The report of `hsm-stream-stats` for people, within 80 columns for names and numbers of the usual size. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hsm_shipper.process.durations import UNKNOWN_SPAN, span
from hsm_shipper.process.output import printable
from hsm_tools.command.event_text import UNKNOWN
from hsm_tools.command.kernel_words import STATUSES
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.live_state.summary import GroupKey, archive_order, oldest_first_seen
from hsm_tools.statistics.stats_report import PERCENTILES, Stats, rates, times

_OTHERS = "others"
_NONE = "-"
_WORD_MAX = 10


def to_table(stats: Stats) -> str:
    """The whole report; below its tables what an operator should look at."""
    parts = [_summary(stats)]
    if stats.streams:
        parts.append(_streams(stats))
    if stats.groups:
        parts.append(_breakdown(stats))
    if (archives := _archives(stats)) is not None:
        parts.append(archives)
    if timed := times(stats):
        rows = [
            (_word(one.action), _word(one.status), f"{len(one.durations):,}", *map(_span, one.percentiles().values()))
            for one in timed
        ]
        parts.append("Time from first seen, over what the streams still hold\n" + _table(rows, _TIMES_HEADERS, 2))
    if remarks := _remarks(stats):
        parts.append("\n".join(remarks))
    return "\n\n".join(parts)


_TIMES_HEADERS = ("ACTION", "UNTIL", "COUNT", *PERCENTILES)
_STREAMS_HEADERS = ("MDT", "LIVE", "OLDEST", "ENTRIES", "BAD", "POLLED", "LINES", "CONTROL")


def _summary(stats: Stats) -> str:
    per_second = ", ".join(f"{rate:,.1f}/s ({minutes} min)" for minutes, rate in rates(stats).items())
    failures = sum((stream.tally.failures for stream in stats.streams), Counter[str]())
    failed = ", ".join(f"{_word(action)} {count:,}" for action, count in sorted(failures.items()))
    live = f"{stats.live:,}, the oldest {_span(stats.oldest_age_s)}" if stats.groups else "none"
    return "\n".join(
        [
            f"Live actions:  {live}",
            f"Streams:       {len(stats.streams):,} with {stats.length:,} entries; {stats.replayed:,} replayed,"
            f" {stats.malformed:,} malformed",
            f"Events:        {per_second}",
            f"Failures:      {failed or 'none'}",
            *([] if stats.replica is None else [printable(f"Read from:     {stats.replica}")]),
        ]
    )


def _streams(stats: Stats) -> str:
    return _table([_stream_row(stats, stream) for stream in stats.streams], _STREAMS_HEADERS, 1)


def _stream_row(stats: Stats, stream: LiveStream) -> tuple[str, ...]:
    beat = stream.heartbeat
    health = stream.health(stats.now_s)
    groups = [group for key, group in stats.groups.items() if key.mdt == stream.mdt]
    polled = str(health.state) if beat is None else _span(health.age_s)
    return (
        printable(stream.mdt),
        f"{sum(group.count for group in groups):,}",
        _span(stats.age_s(oldest_first_seen(groups))) if groups else _NONE,
        f"{stream.length:,}",
        f"{stream.malformed:,}",
        polled,
        _NONE if beat is None else f"{beat.lines:,}",
        UNKNOWN if beat is None or beat.hsm_control is None else _word(beat.hsm_control),
    )


def _breakdown(stats: Stats) -> str:
    return _by_status("MDT", ((printable(key.mdt), key, group.count) for key, group in stats.groups.items()))


def _archives(stats: Stats) -> str | None:
    """By archive, where there is more than one."""
    if len({key.archive_id for key in stats.groups}) < 2:
        return None
    found = sorted(stats.groups.items(), key=lambda item: archive_order(item[0].archive_id))
    named = ((UNKNOWN if key.archive_id is None else str(key.archive_id), key, group.count) for key, group in found)
    return _by_status("ARCHIVE", named)


def _by_status(name: str, counted: Iterable[tuple[str, GroupKey, int]]) -> str:
    """A row for each name and action; the statuses side by side."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for named, key, count in counted:
        rows.setdefault((named, key.action), Counter())[key.status if key.status in STATUSES else _OTHERS] += count
    statuses = [*STATUSES, *([_OTHERS] if any(counts[_OTHERS] for counts in rows.values()) else [])]
    lines = [(named, _word(action), *_counts(counts, statuses)) for (named, action), counts in rows.items()]
    if len(rows) > 1:
        lines += [("all", "", *_counts(sum(rows.values(), Counter()), statuses))]
    return _table(lines, (name, "ACTION", *statuses), 2)


def _counts(counts: Counter[str], statuses: Sequence[str]) -> list[str]:
    return [f"{counts[status]:,}" if counts[status] else _NONE for status in statuses]


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str], names: int) -> str:
    """A table whose first columns are names, and whose others are numbers; two blanks between them.

    Headers are a row like any other: what it knows to be headers, tabulate widens by two blanks each, and eight columns
    would not fit 80 any more.
    """
    from tabulate import tabulate  # late: metrics need none

    align = ["left"] * names + ["right"] * (len(headers) - names)
    return tabulate([headers, *rows], tablefmt="plain", colalign=align, disable_numparse=True)


def _remarks(stats: Stats) -> list[str]:
    remarks = []
    for stream in stats.streams:
        troubles = stream.health(stats.now_s).troubles
        if stream.trouble is not None:
            troubles = [stream.trouble, *troubles]
        remarks += [printable(f"{stream.mdt}: {trouble}") for trouble in troubles]
    return remarks


def _word(word: str) -> str:
    """A word of the stream, shown and short: the kernel's have at most eight letters."""
    word = printable(word)
    return word if len(word) <= _WORD_MAX else f"{word[: _WORD_MAX - 1]}…"


def _span(seconds: float | None) -> str:
    return UNKNOWN_SPAN if seconds is None else span(seconds)
