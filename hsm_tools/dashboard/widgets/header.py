"""The lines above the tables: the frame's own with colour, rates, health, and what is wrong."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len

from hsm_shipper.process.durations import span
from hsm_tools.dashboard import text_frame as frame
from hsm_tools.dashboard.data.counts_table import Row
from hsm_tools.dashboard.data.problems import Severity
from hsm_tools.dashboard.data.streams_state import STEP_S, StreamsState
from hsm_tools.dashboard.data.view_updater import ReplayProgress, StreamsView, recent
from hsm_tools.dashboard.widgets import styles
from hsm_tools.dashboard.widgets.lines import Line, Span, line
from hsm_tools.live_state.health import ENABLED, Health

_REMARKS_FOR_S = 60.0
_BAR_COLUMNS = 40
_BETWEEN = " | "
_UNKNOWN = "unknown"
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " .:-=+*#@"
_SEVERITIES = {Severity.BAD: styles.BAD, Severity.ODD: styles.ODD}


def status_lines(view: StreamsView, status: str, now_s: float, width: int) -> list[Line]:
    """The header as in the plain frame, in colour."""
    title, time_line, status_line, totals = frame.header_lines(view.state, view.connection, status, now_s)
    before, separator, redis = time_line.partition("Redis: ")
    is_old = view.connection.replica is not None and view.connection.replica.is_behind
    redis_style = styles.GOOD if view.connection.lost_at is None and not is_old else styles.ALARM
    status_style = styles.PLAIN if view.connection.lost_at is None and view.failure is None else styles.BAD
    return [
        line(Span(title, styles.STRONG)),
        line(before, separator, Span(redis, redis_style)),
        line(Span(status_line, status_style)),
        *joined([[Span(part, styles.STRONG)] for part in totals.split(" | ")], width),
    ]


def joined(parts: Sequence[Sequence[Span | str]], width: int) -> list[Line]:
    """Parts of a line side by side, in as many lines as that takes."""
    lines: list[Line] = []
    for part in (line(*spans) for spans in parts):
        if lines and _length(lines[-1]) + len(_BETWEEN) + _length(part) <= width:
            lines[-1] = (*lines[-1], Span(_BETWEEN), *part)
        else:
            lines.append(part)
    return lines


def _length(shown: Line) -> int:
    return sum(cell_len(span.text) for span in shown)


def progress_line(progress: ReplayProgress) -> Line:
    """A bar of how far a replay is."""
    if progress.total is None:
        return line(Span(str(progress), styles.ODD))
    filled = "#" * round(progress.part * _BAR_COLUMNS)
    count = f" {min(progress.done, progress.total):,} of {progress.total:,} entries"
    return line("[", Span(f"{filled:<{_BAR_COLUMNS}}", styles.GOOD), f"]{count}")


def oldest_lines(table: Sequence[Row], now_s: float, interval_s: float, width: int) -> list[Line]:
    """The oldest action of the table, and how often it is looked for."""
    return joined([[f"Oldest Live Action: {frame.oldest(table, now_s)}"], [f"Interval: {interval_s:g}s"]], width)


def events_line(state: StreamsState, width: int, *, ascii_only: bool) -> Line:
    """Events a second, and those of each ten seconds as a sparkline, the newest on the right."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    label = f"Events: {state.rate(10):,.1f}/s (10s) {state.rate(60):,.1f}/s (1m) "
    highest = max(state.arrivals) / STEP_S
    room = width - len(label) - len(f"|| 00m 00s, most {highest:,.1f}/s")
    steps = state.arrivals[-max(1, min(room, len(state.arrivals))) :]
    most = max(steps)
    # What is more than nothing is always seen.
    heights = [0 if not count else max(1, round(count / most * (len(blocks) - 1))) for count in steps]
    bar = "".join(blocks[height] for height in heights)
    note = f"{span(len(steps) * STEP_S)}, most {most / STEP_S:,.1f}/s"
    return line(label, Span("|", styles.QUIET), Span(bar, styles.GOOD), Span("|", styles.QUIET), f" {note}")


def health_lines(state: StreamsState, width: int) -> list[Line]:
    """Workers, coordinators and copytools in numbers."""
    return joined([_workers(state), _coordinators(state), _copytools(state)], width)


def _workers(state: StreamsState) -> list[Span | str]:
    states = Counter(mdt.health.state for mdt in state.mdts)
    spans: list[Span | str] = [f"Workers: {states[Health.FRESH]} polling"]
    others = (
        (Health.OLD, "stale", styles.ALARM),
        (Health.MISSING, "missing", styles.ALARM),
        (Health.UNREADABLE, "unreadable", styles.ODD),
    )
    for health, word, style in others:
        if states[health]:
            spans += [", ", Span(f"{states[health]} {word}", style)]
    return spans


def _coordinators(state: StreamsState) -> list[Span | str]:
    controls = Counter(mdt.heartbeat.hsm_control or _UNKNOWN for mdt in state.mdts if mdt.heartbeat is not None)
    spans: list[Span | str] = ["Coordinators: ", "" if controls else _UNKNOWN]
    for at, (control, count) in enumerate(sorted(controls.items(), key=lambda item: (item[0] != ENABLED, item[0]))):
        style = styles.PLAIN if control in (ENABLED, _UNKNOWN) else styles.ALARM
        spans += [", " if at else "", Span(f"{count} {frame.name(control)}", style)]
    return spans


def _copytools(state: StreamsState) -> list[Span | str]:
    """One copytool may serve every MDT of its file system."""
    beats = [mdt.heartbeat for mdt in state.mdts if mdt.heartbeat is not None and mdt.heartbeat.copytools is not None]
    if not beats:
        return [f"Copytools: {_UNKNOWN}"]
    tools = [tool for beat in beats for tool in beat.copytools or ()]
    busy = {tool.uuid for tool in tools if tool.current > 0}
    not_understood = max(beat.agents_not_understood for beat in beats)
    more = f", {not_understood} not understood" if not_understood else ""
    return [f"Copytools: {len({tool.uuid for tool in tools})}, {len(busy)} busy{more}"]


def problem_lines(view: StreamsView, now_s: float, width: int, most: int) -> list[Line]:
    """What is wrong, the worst first, in at most so many lines."""
    found = frame.problem_lines(view.state, view.connection)
    texts = [(text, _SEVERITIES[severity]) for severity, text in found]
    if view.failure is not None:
        texts.insert(0, (f"{Severity.BAD.value} {view.failure.why}", styles.BAD))
    texts += [(f"NOTE  {text}", styles.ODD) for text in recent(view.remarks, now_s - _REMARKS_FOR_S)]
    lines = [line(Span(part, style)) for text, style in texts for part in _wrapped(text, width)]
    if len(lines) > most == 1:
        return lines[:1]
    if len(lines) > most:
        left = len(lines) - most + 1
        lines = [*lines[: most - 1], line(Span(f"... and {left} more (m shows the MDTs)", styles.ODD))]
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(20, width), subsequent_indent=" " * 6)


def titled(title: str, extra: str, width: int) -> Line:
    """The title of a table, and something at the right end of its line."""
    room = width - len(title) - len(extra)
    return line(Span(title, styles.STRONG), f"{' ' * max(2, room)}{extra}")
