"""The first page: how many live actions there are, by MDT, action and status."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.events import Key
from textual.widgets import Input

from hsm_shipper.process.durations import age
from hsm_tools.dashboard import text_frame as frame
from hsm_tools.dashboard.data.counts_table import By, Row, rows
from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.screens.actions import Actions
from hsm_tools.dashboard.screens.page import Keys, Page
from hsm_tools.dashboard.widgets import styles
from hsm_tools.dashboard.widgets.grid import Column, Grid, GridRow
from hsm_tools.dashboard.widgets.header import (
    events_line,
    health_lines,
    oldest_lines,
    problem_lines,
    progress_line,
    status_lines,
    titled,
)
from hsm_tools.dashboard.widgets.lines import Line, Lines, Span, line
from hsm_tools.live_state.summary import GroupKey

_NUMBERS = ("COUNT", "DIFF", "OLDEST")
_PROBLEMS_MAX = 4
# Below so many lines the table would have no room for anything.
_ROOMY_LINES = 20
_SORT_BY: dict[str, Callable[[Row], Any]] = {
    "COUNT": lambda row: -row.live,
    "DIFF": lambda row: -abs(row.diff),
    "OLDEST": lambda row: float("inf") if row.oldest_first_seen is None else row.oldest_first_seen,
}


class Overview(Page):
    """The dashboard itself."""

    SEPARATOR = " | "
    KEYS: ClassVar[Keys] = (
        ("q", "Quit"),
        ("h", "Help"),
        ("p", "Pause"),
        ("s", "Sort"),
        ("f", "Filter"),
        ("g", "Group"),
        ("m", "MDTs"),
        ("Enter", "Actions"),
        ("+ -", ""),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "app.pause", show=False),
        Binding("s", "sort", show=False),
        Binding("S,R", "reverse", show=False),
        Binding("f,slash", "filter", show=False),
        Binding("g", "group", show=False),
    ]
    DEFAULT_CSS = """
    #prompt { height: 1; display: none; }
    #label { width: 8; }
    #filter, #filter:focus { height: 1; border: none; padding: 0; background: ansi_default; color: ansi_default; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._by = By.ALL
        self._sort: str | None = None
        self._reversed = False
        self._words: list[str] = []
        self._table: Sequence[Row] = ()
        self._input = Input(placeholder="words of MDT, action or status; Enter keeps, Esc clears", id="filter")
        self._prompt = Horizontal(Lines(id="label"), self._input, id="prompt")

    def compose(self) -> ComposeResult:
        """As Textual asks for it."""
        yield from super().compose()
        yield self._prompt

    def on_mount(self) -> None:
        """As Textual says."""
        self.query_one("#label", Lines).show([line(Span("Filter: ", styles.STRONG))])

    def draw(self, view: StreamsView) -> None:
        """Header, problems and table."""
        now_s = time.time()
        height, width = self.size.height, self.size.width
        self._table = self._sorted(view)
        lines = status_lines(view, self.dashboard.status(view, now_s), now_s, width)
        if view.progress is not None:
            lines.append(progress_line(view.progress))
        if view.state is not None:
            lines += oldest_lines(self._table, now_s, self.dashboard.update_thread.interval_s, width)
            if height >= _ROOMY_LINES:
                lines.append(events_line(view.state, width, ascii_only=self.dashboard.ascii_only))
            lines += health_lines(view.state, width)
        lines += problem_lines(view, now_s, width, _PROBLEMS_MAX if height >= _ROOMY_LINES else 1)
        self.above.show([*lines, *([line()] if height >= _ROOMY_LINES else [])])
        self.grid.show(self._columns(), [self._row(row, now_s) for row in self._table], self._heading)
        self.below.show(self._nothing(view))

    def _heading(self, first: int, behind: int) -> Line:
        extra = [f"{first + 1}-{behind} of {len(self._table)}"] if len(self._table) > behind - first else []
        if self._sort is not None:
            extra.append(f"by {self._sort}{' reversed' if self._reversed else ''}")
        elif self._reversed:
            extra.append("reversed")
        if self._words:
            extra.append(f"filter: {frame.clipped(' '.join(self._words), 20)}")
        return titled(frame.section(self._by), ", ".join(extra), self.size.width)

    def _nothing(self, view: StreamsView) -> list[Line]:
        if view.state is None or self._table:
            return []
        if self._words:
            return [line("No live action passes the filter; Esc clears it.")]
        return [line(frame.nothing_live(view.state))]

    def _columns(self) -> list[Column]:
        names = [Column(name, width, flexible=name == "STATUS") for name, width in self._names()]
        return [*names, Column("COUNT", 10, True), Column("DIFF", 8), Column("OLDEST", 8)]

    def _names(self) -> list[tuple[str, int]]:
        return [(name, 11 if name in ("MDT", "ARCHIVE", "HOST") else 7) for name in self._by.value]

    def _row(self, row: Row, now_s: float) -> GridRow:
        names = [
            Span(frame.name(text), styles.of_status(text) if title == "STATUS" else styles.PLAIN)
            for title, text in zip(self._by.value, row.names, strict=True)
        ]
        difference = Span(frame.diff(row.diff), styles.of_difference(row.diff))
        oldest = Span(age(row.oldest_first_seen, now_s) if row.live else "-")
        return GridRow((self._by, row.names), (*names, Span(f"{row.live:,}"), difference, oldest))

    def _sorted(self, view: StreamsView) -> list[Row]:
        if view.state is None:
            return []
        table = rows(view.state, view.before, self._by, self.wanted)
        sort = self._sort
        if sort in _SORT_BY:
            table.sort(key=_SORT_BY[sort])
        elif sort in self._by.value:
            at = self._by.value.index(sort)
            table.sort(key=lambda row: row.names[at])
        return table[::-1] if self._reversed else table

    def wanted(self, key: GroupKey) -> bool:
        """Whether the filter lets a group through: each of its words is somewhere in it, in any case."""
        text = " ".join(key[:3]).casefold()
        return all(word in text for word in self._words)

    def action_sort(self) -> None:
        """By the next column; after the last one as at first."""
        choices = [None, *self._by.value[1:], *_NUMBERS]
        at = choices.index(self._sort) if self._sort in choices else 0
        self._sort = choices[(at + 1) % len(choices)]
        self._reversed = False
        self._rearrange()

    def action_reverse(self) -> None:
        """The other way round."""
        self._reversed = not self._reversed
        self._rearrange()

    def action_group(self) -> None:
        """By something else."""
        choices = list(By)
        self._by = choices[(choices.index(self._by) + 1) % len(choices)]
        self._rearrange()

    def action_filter(self) -> None:
        """Ask for the words of the filter."""
        self._prompt.display, self.keys.display = True, False
        self._input.focus()

    def action_back(self) -> None:
        """There is no page before this one: show everything again."""
        self._input.value = ""
        self._words = []
        self._end_prompt()

    def on_input_changed(self, event: Input.Changed) -> None:
        """The filter works as it is typed."""
        self._words = event.value.casefold().split()
        self._rearrange()

    def on_input_submitted(self) -> None:
        """Back to the table."""
        self._end_prompt()

    def on_key(self, event: Key) -> None:
        """Up and down leave the prompt as well: there is no other use for them there."""
        if event.key in ("up", "down") and self._input.has_focus:
            self._end_prompt()

    def _rearrange(self) -> None:
        self.grid.to_first()
        self.redraw()

    def _end_prompt(self) -> None:
        self._prompt.display, self.keys.display = False, True
        self.grid.focus()
        self.redraw()

    def on_grid_chosen(self, event: Grid.Chosen) -> None:
        """The actions of a row."""
        by, names = event.key
        self.app.push_screen(Actions(by, names, self.wanted))
