"""The actions of a row, the oldest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType

from hsm_shipper.errors import HsmError
from hsm_shipper.process.durations import age
from hsm_tools.dashboard import text_frame as frame
from hsm_tools.dashboard.data.counts_table import By, rows
from hsm_tools.dashboard.data.longest_waiting import ActionRow, LongestWaiting, longest_waiting
from hsm_tools.dashboard.data.lookup import Entry
from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.screens.history import HistoryPage
from hsm_tools.dashboard.screens.page import Keys, Page
from hsm_tools.dashboard.widgets import styles
from hsm_tools.dashboard.widgets.grid import Column, Grid, GridRow
from hsm_tools.dashboard.widgets.header import status_lines, titled
from hsm_tools.dashboard.widgets.lines import Line, Span, folded, line
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_state.summary import GroupKey

ACTIONS_MAX = 1000

_Key = tuple[str, str]  # MDT and id of an entry


class Actions(Page):
    """At most `ACTIONS_MAX` actions of the row `names` of the table by `by`."""

    SEPARATOR = " "
    KEYS: ClassVar[Keys] = (("Esc", "Back"), ("p", "Paths"), ("Enter", "History"), ("Space", "Pause"), ("h", "Help"))
    BINDINGS: ClassVar[list[BindingType]] = [Binding("p", "paths", show=False)]

    def __init__(self, by: By, names: tuple[str, ...], wanted: Callable[[GroupKey], bool]) -> None:
        super().__init__()
        self._by = by
        self._names = names
        self._wanted = wanted
        self._oldest: LongestWaiting | None = None
        self._by_identity: dict[tuple[str, int, str | None, str], ActionRow] = {}
        self._entries: dict[_Key, Entry | None] = {}
        self._unanswered: str | None = None
        self._trouble: str | None = None
        self._asked = False

    def on_mount(self) -> None:
        """As Textual says."""
        self.news()

    def on_screen_resume(self) -> None:
        """Back from a history."""
        self.news()

    def news(self) -> None:
        """Look for the oldest actions again."""
        dashboard = self.dashboard  # a page that was left does not know it any more, and may be answered all the same
        state = dashboard.update_thread.updater.view.state
        if state is None or self._asked:
            return
        table = rows(state, None, self._by, self._wanted)
        keys = frozenset(key for row in table if row.names == self._names for key in row.keys)
        self._asked = True

        def question(streams: LiveStreams) -> None:
            found = longest_waiting(streams, keys, ACTIONS_MAX)
            dashboard.deliver(lambda: self._found(found))

        def failed(error: HsmError) -> None:
            dashboard.deliver(lambda: self._not_found(error))

        dashboard.update_thread.ask(question, failed)

    def _found(self, found: LongestWaiting) -> None:
        self._asked = False
        self._oldest, self._unanswered = found, None
        self._by_identity = {one.identity: one for one in found.actions}
        keys = {(one.mdt, one.action.entry_id) for one in found.actions}
        self._entries = {key: entry for key, entry in self._entries.items() if key in keys}
        missing = keys - self._entries.keys()
        if missing:
            self._entries |= dict.fromkeys(missing)
            self.dashboard.lookup_thread.do(lambda lookup: lookup.entries(missing), self._looked_up, self._failed)
        self.redraw()

    def _not_found(self, error: HsmError) -> None:
        self._asked = False
        self._unanswered = str(error)
        self.redraw()

    def _looked_up(self, entries: dict[_Key, Entry]) -> None:
        self._trouble = None
        self._entries |= {key: entry for key, entry in entries.items() if key in self._entries}
        self.redraw()

    def _failed(self, error: HsmError) -> None:
        self._trouble = str(error)
        self._entries = {key: entry for key, entry in self._entries.items() if entry is not None}
        self.redraw()

    def draw(self, view: StreamsView) -> None:
        """What has been found."""
        now_s = time.time()
        found = self._oldest
        actions = () if found is None else found.actions
        columns, row = self._shape()
        self.grid.show(columns, [row(one, now_s) for one in actions], self._heading)
        lines = status_lines(view, self.dashboard.status(view, now_s), now_s, self.size.width)
        self.above.show([*lines, line()])
        self.below.show(self._details())

    def _heading(self, first: int, behind: int) -> Line:
        found = self._oldest
        what = " ".join(map(frame.name, self._names))
        if found is None:
            extent = "looking..." if self._unanswered is None else "not known"
            return titled(f"--- Actions: {what} ---", extent, self.size.width)
        place = f"{first + 1}-{behind} of {len(found.actions):,}" if found.actions else "none left"
        if found.total <= len(found.actions):
            return titled(f"--- Actions: {what} ---", place, self.size.width)
        return titled(
            f"--- Oldest {len(found.actions):,} of {found.total:,} Actions: {what} ---", place, self.size.width
        )

    def _shape(self) -> tuple[list[Column], Callable[[ActionRow, float], GridRow]]:
        """Columns, and how to fill them: what all rows have in common needs none."""
        shown = self._by is not By.ALL
        columns = [Column("AGE", 7), Column("IN STATE", 7)]
        if shown:
            columns += [Column("MDT", 11), Column("ACTION", 7), Column("STATUS", 7)]
        columns += [Column("ARCH", 4, right=True), Column("HOST", 4), Column("FILE", 20, flexible=True, keep_end=True)]

        def row(one: ActionRow, now_s: float) -> GridRow:
            action = one.action
            entry = self._entries.get((one.mdt, action.entry_id))
            cells = [Span(age(action.first_seen, now_s)), Span(age(action.status_since, now_s))]
            if shown:
                status = Span(frame.name(action.status), styles.of_status(action.status))
                cells += [Span(one.mdt), Span(frame.name(action.action)), status]
            archive = "" if entry is None or entry.archive_id is None else str(entry.archive_id)
            host = "" if entry is None or entry.event.host is None else frame.name(entry.event.host)
            file = self.dashboard.files.shown(one.mdt, action.fid)
            return GridRow(one.identity, (*cells, Span(archive), Span(host), Span(file)))

        return columns, row

    def _details(self) -> list[Line]:
        """The action under the cursor, with its path."""
        one = self._by_identity.get(self.grid.current)
        lines = [line(Span(text, styles.BAD)) for text in (self._unanswered, self._trouble) if text is not None]
        if one is None:
            return lines
        action = one.action
        files = self.dashboard.files
        files.ask(one.mdt, action.fid)
        where = f"{one.mdt} {action.cat_idx}/{action.rec_idx} cookie {action.cookie or '?'}"
        entry = self._entries.get((one.mdt, action.entry_id))
        if entry is not None and entry.event.refresh:
            where += " (repeated state)"
        return [*lines, line(f"[{action.fid}] {where}"), *folded(files.told(one.mdt, action.fid), self.size.width)]

    def on_grid_moved(self) -> None:
        """Another action is under the cursor."""
        self.redraw()

    def action_paths(self) -> None:
        """Ask for the paths of all that are listed."""
        if self._oldest is not None:
            for one in self._oldest.actions:
                self.dashboard.files.ask(one.mdt, one.action.fid)
        self.redraw()

    def on_grid_chosen(self, event: Grid.Chosen) -> None:
        """The history of an action."""
        one = self._by_identity.get(event.key)
        if one is not None:
            self.app.push_screen(HistoryPage(one))
