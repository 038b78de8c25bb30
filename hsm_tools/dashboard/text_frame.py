"""The dashboard as plain text: the lines above its table, the table, and what is wrong. Pure.

Nothing in a line could be obeyed by a terminal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from hsm_shipper.process.durations import age, span
from hsm_shipper.process.output import printable
from hsm_tools.dashboard.data.counts_table import By, Row, rows
from hsm_tools.dashboard.data.problems import Severity, problems
from hsm_tools.dashboard.data.streams_state import StreamsState

TITLE = "--- Lustre HSM Action Dashboard ---"
LISTENING = "Listening for live updates..."

# The kernel's words have ten letters at most; a stream may say anything.
_NAME_MAX = 40
_NAME_WIDTHS = {"MDT": 11, "ACTION": 7, "STATUS": 10, "ARCHIVE": 11, "HOST": 11}
_COUNT_WIDTH = 10
_DIFF_WIDTH = 10
_TROUBLE_MAX = 200


class Connection(NamedTuple):
    """How it is with Redis. Times are seconds since the epoch."""

    lost_at: float | None = None
    """Since when there is no answer; None where there is one."""
    why: str = ""
    """The error; not yet fit for a terminal."""


CONNECTED = Connection()


def frame(state: StreamsState, before: StreamsState | None, connection: Connection, status: str, now_s: float) -> str:
    """One frame, as `--batch` and `--run-once` print it; `status` is that of the viewer."""
    table = rows(state, before)
    lines = header_lines(state, connection, status, now_s)
    lines += ["", section(By.ALL), *table_lines(table, By.ALL)]
    if not table:
        lines.append(nothing_live(state))
    wrong = problem_lines(state, connection)
    if wrong:
        lines += ["", *(text for _, text in wrong)]
    return "\n".join(lines)


def header_lines(state: StreamsState | None, connection: Connection, status: str, now_s: float) -> list[str]:
    """What is above the table."""
    return [
        TITLE,
        f"Time: {_local(now_s, '%Y-%m-%d %H:%M:%S')} | Redis: {redis_status(connection)}",
        f"Viewer Status: {status}",
        totals(state, now_s),
    ]


def redis_status(connection: Connection) -> str:
    """Whether Redis answers, in words."""
    if connection.lost_at is None:
        return "Connected"
    return f"Disconnected since {_local(connection.lost_at, '%H:%M:%S')}"


def totals(state: StreamsState | None, now_s: float) -> str:
    """The line of the totals."""
    if state is None:
        return "Live Actions: - | Total Events Processed: - | Last Event: -"
    filtered = "" if state.shown == state.live else f"{state.shown:,} of "
    last = "never" if state.last_event_at is None else f"{age(state.last_event_at, now_s)} ago"
    return f"Live Actions: {filtered}{state.live:,} | Total Events Processed: {state.entries:,} | Last Event: {last}"


def section(by: By) -> str:
    """The title of the table."""
    names = ", ".join("MDT" if name == "MDT" else name.capitalize() for name in by.value)
    return f"--- Live Action Count by ({names}) ---"


def table_lines(table: Sequence[Row], by: By) -> list[str]:
    """Header, rule and rows; columns widen for longer names and numbers."""
    shown = [tuple(map(name, row.names)) for row in table]
    counts = [f"{row.live:,}" for row in table]
    widths = [
        max(_NAME_WIDTHS[title], *(len(names[at]) for names in shown)) if shown else _NAME_WIDTHS[title]
        for at, title in enumerate(by.value)
    ]
    width = max(_COUNT_WIDTH, *map(len, counts)) if counts else _COUNT_WIDTH

    def line(names: Sequence[str], count: str, last: str) -> str:
        columns = [f"{name:<{at}}" for name, at in zip(names, widths, strict=True)]
        return f"{' | '.join([*columns, f'{count:>{width}}'])} {last}"

    rule = "-" * (len(line(by.value, "", "")) + _DIFF_WIDTH)
    body = [line(names, count, diff(row.diff)) for names, count, row in zip(shown, counts, table, strict=True)]
    return [line(by.value, "COUNT", "DIFF"), rule, *body]


def nothing_live(state: StreamsState) -> str:
    """What stands in place of rows."""
    if state.live:
        return "No live action passes the filters."
    count = len(state.mdts)
    return f"No live actions: {'1 stream' if count == 1 else f'{count} streams'}."


def diff(difference: int) -> str:
    """`(+5)`, `(-1,200)`, or nothing."""
    return f"({difference:+,})" if difference else ""


def problem_lines(state: StreamsState | None, connection: Connection) -> list[tuple[Severity, str]]:
    """What is wrong, the worst first, a line each."""
    found: list[tuple[Severity, object]] = []
    if connection.lost_at is not None:
        found.append((Severity.BAD, connection.why))
    if state is not None:
        found += [(problem.severity, problem) for problem in problems(state)]
    return [(severity, clipped(printable(f"{severity.value:<5} {what}"), _TROUBLE_MAX)) for severity, what in found]


def name(text: str) -> str:
    """A word of a stream as tables show it."""
    return clipped(printable(text), _NAME_MAX)


def clipped(text: str, most: int) -> str:
    """`text`, its end replaced by dots where it is longer than `most`."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def oldest(table: Sequence[Row], now_s: float) -> str:
    """The oldest action of the table, by its age and its row."""
    known = [row for row in table if row.oldest_first_seen is not None]
    if not known:
        return "-"
    found = min(known, key=lambda row: row.oldest_first_seen or 0)
    return f"{age(found.oldest_first_seen, now_s)} ({' '.join(map(name, found.names))})"


def away(connection: Connection, now_s: float) -> str:
    """The status of a viewer that waits for Redis."""
    assert connection.lost_at is not None
    return f"No answer for {span(now_s - connection.lost_at)}, trying again; what was last known is shown"


def _local(seconds: float, form: str) -> str:
    return time.strftime(form, time.localtime(seconds))
