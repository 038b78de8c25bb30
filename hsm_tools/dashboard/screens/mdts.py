"""The MDTs: their shippers, coordinators, copytools and streams."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.process.durations import age, span
from hsm_tools.dashboard import text_frame as frame
from hsm_tools.dashboard.data.streams_state import MdtState
from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.screens.page import Keys, Page
from hsm_tools.dashboard.widgets import styles
from hsm_tools.dashboard.widgets.grid import Column, GridRow
from hsm_tools.dashboard.widgets.header import health_lines, problem_lines, status_lines, titled
from hsm_tools.dashboard.widgets.lines import Line, Span, line
from hsm_tools.live_state.health import ENABLED, Health

_COLUMNS = (
    Column("MDT", 11),
    Column("WORKER", 10),
    Column("HOST", 6, flexible=True),
    Column("POLLED", 6),
    Column("LIVE", 7, right=True),
    Column("BACKLOG", 7, right=True),
    Column("COORD", 8),
    Column("TOOLS", 5, right=True),
    Column("ENTRIES", 7, right=True),
)
_STATES = {
    Health.FRESH: Span("polling", styles.GOOD),
    Health.OLD: Span("STALE", styles.ALARM),
    Health.MISSING: Span("MISSING", styles.ALARM),
    Health.UNREADABLE: Span("UNREADABLE", styles.ODD),
}
_COPYTOOLS_MAX = 3
_PROBLEMS_MAX = 4


class Mdts(Page):
    """One row for each MDT, and below the table all that is known of the one under the cursor."""

    SEPARATOR = " "
    KEYS: ClassVar[Keys] = (("Esc", "Back"), ("Space", "Pause"), ("h", "Help"), ("q", "Quit"))

    def draw(self, view: StreamsView) -> None:
        """What the heartbeats say."""
        now_s = time.time()
        lines = status_lines(view, self.dashboard.status(view, now_s), now_s, self.size.width)
        mdts = () if view.state is None else view.state.mdts
        self.grid.show(_COLUMNS, [_row(mdt, now_s) for mdt in mdts], partial(self._heading, len(mdts)))
        if view.state is not None:
            lines += health_lines(view.state, self.size.width)
            lines += problem_lines(view, now_s, self.size.width, _PROBLEMS_MAX)
            current = next((mdt for mdt in mdts if mdt.mdt == self.grid.current), None)
            self.below.show([] if current is None else _details(current, now_s))
        self.above.show([*lines, line()])

    def _heading(self, total: int, first: int, behind: int) -> Line:
        place = f"{first + 1}-{behind} of {total}" if total else "none"
        return titled("--- MDTs and their Shippers ---", place, self.size.width)

    def on_grid_moved(self) -> None:
        """Another MDT is under the cursor."""
        self.redraw()


def _row(mdt: MdtState, now_s: float) -> GridRow:
    beat = mdt.heartbeat
    if beat is None:
        told: Sequence[Span] = (Span("-"), Span("-"), Span(f"{mdt.live:,}"), Span("-"), Span("-"), Span("-"))
    else:
        control = beat.hsm_control or "?"
        style = styles.PLAIN if control in (ENABLED, "?") else styles.ALARM
        told = (
            Span(frame.name(beat.host)),
            Span(age(beat.last_poll_at, now_s)),
            Span(f"{mdt.live:,}"),
            Span(f"{beat.backlog:,}", styles.ODD if beat.backlog else styles.PLAIN),
            Span(frame.name(control), style),
            Span("?" if beat.registered_copytools is None else str(beat.registered_copytools)),
        )
    return GridRow(mdt.mdt, (Span(mdt.mdt), _STATES[mdt.health.state], *told, Span(f"{mdt.length:,}")))


def _details(mdt: MdtState, now_s: float) -> list[Line]:
    malformed = f", {mdt.malformed:,} malformed" if mdt.malformed else ""
    last = "never" if mdt.last_event_at is None else f"{age(mdt.last_event_at, now_s)} ago"
    lines = [line(f"{mdt.mdt}: {mdt.length:,} entries, the last {last}; {mdt.entries:,} read{malformed}")]
    if mdt.trouble is not None:
        lines.append(line(Span(mdt.trouble, styles.BAD)))
    if mdt.health.state is Health.UNREADABLE:
        unread = [line(Span(f"The {trouble}", styles.ODD)) for trouble in mdt.health.troubles]
        return [*lines, *unread, line("Whether a shipper polls it is not known.")]
    if mdt.heartbeat is None:
        text = "No heartbeat: no shipper polls it, or it hangs, or it cannot reach Redis."
        return [*lines, line(Span(text, styles.BAD))]
    return [*lines, *_heartbeat(mdt.heartbeat, now_s)]


def _heartbeat(beat: Heartbeat, now_s: float) -> list[Line]:
    took = f"{beat.last_poll_duration_s:.1f} s, every {beat.poll_interval_s:g} s"
    lines = [
        line(f"Worker {beat.pid} on {frame.name(beat.host)}: a poll takes {took}; {beat.lines:,} lines in the list"),
    ]
    if beat.lines_not_understood:
        text = f"{beat.lines_not_understood:,} of these are not understood, and not shipped"
        lines.append(line(Span(text, styles.ODD)))
    if beat.backlog_since is not None:
        text = f"{beat.backlog:,} changes wait for Redis, the first for {age(beat.backlog_since, now_s)}"
        lines.append(line(Span(text, styles.ODD)))
    if beat.last_error is not None:
        lines.append(line(Span(f"Its last poll failed: {beat.last_error}", styles.BAD)))
    tunables = (
        ("max_requests", "" if beat.max_requests is None else str(beat.max_requests)),
        ("active requests", "" if beat.slots.active is None else str(beat.slots.active)),
        ("grace_delay", "" if beat.grace_delay_s is None else span(beat.grace_delay_s)),
        ("loop_period", "" if beat.loop_period_s is None else span(beat.loop_period_s)),
    )
    told = "".join(f", {name} {value}" for name, value in tunables if value)
    lines.append(line(f"Coordinator: {frame.name(beat.hsm_control or 'not readable')}{told}"))
    if beat.lost_slots is not None:
        text = f"No slot is left, and no copytool works on {beat.lost_slots.lost} of the active requests"
        lines.append(line(Span(text, styles.ODD)))
    tools = beat.copytools or []
    for tool in tools[:_COPYTOOLS_MAX]:
        archives = ",".join(map(str, tool.archive_ids)) or "any"
        done = f"{tool.current:,} under way, {tool.ok:,} done, {tool.errors:,} failed"
        style = styles.ODD if tool.errors else styles.PLAIN
        lines.append(line(Span(f"Copytool {frame.name(tool.uuid)}, archive {archives}: {done}", style)))
    if len(tools) > _COPYTOOLS_MAX:
        lines.append(line(f"... and {len(tools) - _COPYTOOLS_MAX} more copytools"))
    return lines
