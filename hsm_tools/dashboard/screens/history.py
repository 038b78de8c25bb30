"""What the stream still has on one action."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.binding import Binding, BindingType

from hsm_shipper.contract.event import PURGED
from hsm_shipper.errors import HsmError
from hsm_shipper.process.durations import span
from hsm_tools.command.event_text import event_seconds, event_time
from hsm_tools.dashboard import text_frame as frame
from hsm_tools.dashboard.data.longest_waiting import ActionRow
from hsm_tools.dashboard.data.lookup import Entry, History
from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.screens.page import Keys, Page
from hsm_tools.dashboard.widgets import styles
from hsm_tools.dashboard.widgets.grid import Column, GridRow
from hsm_tools.dashboard.widgets.header import status_lines, titled
from hsm_tools.dashboard.widgets.lines import Line, Span, folded, line
from hsm_tools.event import StreamEvent
from hsm_tools.live_state.tally import REFRESH

_COLUMNS = (
    Column("TIME", 19),
    Column("AFTER", 7),
    Column("EVENT", 7),
    Column("STATUS", 8),
    Column("HOST", 4),
    Column("ENTRY", 17, flexible=True),
)


class HistoryPage(Page):
    """The entries of the action `found`, and what is added to them."""

    KEYS: ClassVar[Keys] = (("Esc", "Back"), ("p", "Path"), ("Space", "Pause"), ("h", "Help"), ("q", "Quit"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("p", "path", show=False)]

    def __init__(self, found: ActionRow) -> None:
        super().__init__()
        self._mdt, self._action = found.mdt, found.action
        self._history: History | None = None
        self._trouble: str | None = None
        self._asked = False

    def on_mount(self) -> None:
        """As Textual says."""
        self.dashboard.files.ask(self._mdt, self._action.fid)
        self.news()

    def news(self) -> None:
        """Look for what was added."""
        if self._asked:
            return
        self._asked = True
        mdt, action, known = self._mdt, self._action, self._history
        if known is None:
            self.dashboard.lookup_thread.do(lambda lookup: lookup.history(mdt, action), self._found, self._failed)
        else:
            self.dashboard.lookup_thread.do(lambda lookup: lookup.since(mdt, action, known), self._found, self._failed)

    def _found(self, history: History) -> None:
        self._asked = False
        self._history, self._trouble = history, None
        self.redraw()

    def _failed(self, error: HsmError) -> None:
        self._asked = False
        self._trouble = str(error)
        self.redraw()

    def draw(self, view: StreamsView) -> None:
        """What has been found."""
        now_s = time.time()
        action = self._action
        entries = () if self._history is None else self._history.entries
        before: list[Entry | None] = [None, *entries]
        self.grid.show(_COLUMNS, [_row(entry, last) for last, entry in zip(before, entries, strict=False)])
        lines = status_lines(view, self.dashboard.status(view, now_s), now_s, self.size.width)
        what = (
            f"{self._mdt} {frame.name(action.action)} {action.cat_idx}/{action.rec_idx} cookie {action.cookie or '?'}"
        )
        title = titled(f"--- History: {what} ---", self._extent(), self.size.width)
        file = f"[{action.fid}] {self.dashboard.files.told(self._mdt, action.fid)}"
        self.above.show([*lines, line(), title, *folded(file, self.size.width)])
        self.below.show(self._remarks())

    def _extent(self) -> str:
        if self._history is None:
            return "looking..." if self._trouble is None else "not known"
        return f"{len(self._history.entries):,} entries"

    def _remarks(self) -> list[Line]:
        lines = [] if self._trouble is None else [line(Span(self._trouble, styles.BAD))]
        history = self._history
        if history is None:
            return lines
        if history.entries and history.entries[-1].event.event_type == PURGED:
            lines.append(line(Span("It has left the MDT's list.", styles.STRONG)))
        if history.cut_short:
            said = f"{history.searched:,} entries were searched, from the newest: there may be more before that."
            lines.append(line(Span(said, styles.ODD)))
        elif not history.is_whole:
            lines.append(line(Span("Its beginning is no longer in the stream: it was trimmed.", styles.ODD)))
        return lines

    def action_path(self) -> None:
        """Ask for the path again."""
        self.dashboard.files.ask(self._mdt, self._action.fid)
        self.redraw()


def _row(entry: Entry, before: Entry | None) -> GridRow:
    event = entry.event
    status = (event.last_status if event.event_type == PURGED else event.status) or "?"
    at = event_seconds(_timed(entry))
    last = None if before is None else event_seconds(_timed(before))
    return GridRow(
        entry.entry_id,
        (
            Span(event_time(_timed(entry))),
            Span("" if at is None or last is None else f"+{span(at - last)}"),
            Span(REFRESH if event.refresh else event.event_type),
            Span(frame.name(status), styles.of_status(status)),
            Span(frame.name(event.host or "?")),
            Span(entry.entry_id),
        ),
    )


def _timed(entry: Entry) -> StreamEvent:
    """As much of it as tells its time."""
    return StreamEvent("", entry.entry_id, {"timestamp": entry.event.timestamp})
