"""All keys."""

from __future__ import annotations

from typing import ClassVar

from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.screens.page import Keys, Page
from hsm_tools.dashboard.widgets.grid import Column, GridRow
from hsm_tools.dashboard.widgets.lines import Span, line
from hsm_tools.dashboard.widgets.styles import KEY, STRONG

ALL_KEYS: Keys = (
    ("q, Ctrl+C", "quit"),
    ("h, ?", "this help"),
    ("Space, p", "pause, and go on"),
    ("+, -", "look less often, more often"),
    ("r", "look now"),
    ("Up, Down, PgUp, PgDn, Home, End", "move"),
    ("Enter", "actions of a row; history of an action"),
    ("Esc, Backspace", "back"),
    ("s", "sort by the next column"),
    ("S, R", "the other way round"),
    ("f, /", "only MDTs, actions, statuses with these words; Esc: all"),
    ("g", "group by MDT, action, status, archive, host"),
    ("m", "MDTs: shippers, coordinators, copytools"),
    ("p", "among actions: ask for all their paths"),
    ("Ctrl+Z", "suspend"),
)


class Help(Page):
    """The keys."""

    KEYS: ClassVar[Keys] = (("Esc", "Back"), ("q", "Quit"))

    def draw(self, view: StreamsView) -> None:  # noqa: ARG002 - nothing here changes
        """The keys."""
        self.above.show([line(Span("--- Keys ---", STRONG))])
        rows = [GridRow(at, (Span(key, KEY), Span(what))) for at, (key, what) in enumerate(ALL_KEYS)]
        self.grid.show((Column("KEY", 31), Column("WHAT IT DOES", flexible=True)), rows)
