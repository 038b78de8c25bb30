"""What all pages of the dashboard have: the header above, their keys below, and being drawn again and again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from hsm_tools.dashboard.data.view_updater import StreamsView
from hsm_tools.dashboard.widgets.grid import Grid
from hsm_tools.dashboard.widgets.lines import Line, Lines, Span, line
from hsm_tools.dashboard.widgets.styles import KEY

if TYPE_CHECKING:
    from hsm_tools.dashboard.app import Dashboard

Keys = Sequence[tuple[str, str]]
"""Keys and what they do, for the last line."""


class Page(Screen[None]):
    """One page: lines, a table, more lines, and the keys."""

    SEPARATOR = "  "
    KEYS: ClassVar[Keys] = ()
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,backspace", "back", show=False)]
    DEFAULT_CSS = """
    Page { background: ansi_default; color: ansi_default; layout: vertical; overflow: hidden hidden; }
    Page > #keys { height: 1; }
    """

    @property
    def dashboard(self) -> Dashboard:
        """The application."""
        return cast("Dashboard", self.app)

    def __init__(self) -> None:
        super().__init__()
        # Kept, and not looked for: a page is drawn for the last time when Textual has taken its parts away already.
        self.above = Lines()
        self.grid = Grid(self.SEPARATOR)
        self.below = Lines()
        self.keys = Lines(id="keys")
        self.is_complete = False

    def compose(self) -> ComposeResult:
        """As Textual asks for it."""
        yield from (self.above, self.grid, self.below, self.keys)

    def on_mount(self) -> None:
        """As Textual says."""
        self.is_complete = True
        self.keys.show([keys_line(self.KEYS)])
        self.grid.focus()
        self.redraw()

    def on_resize(self) -> None:
        """What is left out depends on the size."""
        self.redraw()

    def redraw(self) -> None:
        """Draw what may have changed: the clock, what was answered meanwhile."""
        if self.is_complete and self.is_current:
            self.draw(self.dashboard.update_thread.updater.view)

    def news(self) -> None:
        """There is a new state."""

    @abstractmethod
    def draw(self, view: StreamsView) -> None:
        """Draw all of it."""

    def action_back(self) -> None:
        """To the page before."""
        self.dashboard.go_back()


def keys_line(keys: Keys) -> Line:
    """The last line."""
    spans: list[Span | str] = []
    for key, what in keys:
        spans += ["  " if spans else "", Span(key, KEY), f" {what}"]
    return line(*spans)
