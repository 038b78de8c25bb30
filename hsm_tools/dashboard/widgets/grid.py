"""A table with a cursor that stays on its row while the rows change, and that costs nothing but what is in sight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from hsm_shipper.process.output import printable
from hsm_tools.dashboard.widgets.lines import Line, Span, fitted, plain, strip
from hsm_tools.dashboard.widgets.styles import CURSOR, PLAIN, QUIET, STRONG

_HEADER_LINES = 2
_COLUMN_MAX = 40
_FLEXIBLE_MIN = 7


class Column(NamedTuple):
    """One column."""

    title: str
    width: int = 0
    """At least so many columns of the terminal."""
    right: bool = False
    flexible: bool = False
    """Whether it gives way where there is no room."""
    keep_end: bool = False
    """Whether the beginnings of its cells are cut then, not the ends."""


class GridRow(NamedTuple):
    """One row; `key` stays the same while its cells change."""

    key: Any
    cells: tuple[Span, ...]


Heading = Callable[[int, int], Line]
"""The line above a table, for the index of the first row in sight and that behind the last."""


class Grid(Widget, can_focus=True):
    """The table. `Chosen` is sent for Enter, `Moved` when another row is under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1000000000)", show=False),
        Binding("end", "move(1000000000)", show=False),
        Binding("enter", "choose", show=False),
    ]
    # At least the row under the cursor, with its heading and titles: where there is no room, what is below is cut.
    DEFAULT_CSS = "Grid { height: 1fr; min-height: 4; }"

    class Chosen(Message):
        """Enter was pressed on a row."""

        def __init__(self, key: Any) -> None:
            super().__init__()
            self.key = key

    class Moved(Message):
        """Another row is under the cursor."""

    def __init__(self, separator: str = "  ", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._separator = separator
        self._columns: Sequence[Column] = ()
        self._rows: Sequence[GridRow] = ()
        self._heading: Heading | None = None
        self._widths: list[int] = []
        self._cursor = 0
        self._top = 0

    @property
    def current(self) -> Any:
        """The key of the row under the cursor, None without rows."""
        return self._rows[self._cursor].key if self._rows else None

    @property
    def heading(self) -> Line:
        """The line above the table."""
        if self._heading is None:
            return ()
        return self._heading(self._top, min(len(self._rows), self._top + self._page_rows))

    @property
    def text(self) -> str:
        """All rows as they would be drawn, without colours."""
        return "\n".join(plain(self._spans(row)).rstrip() for row in self._rows)

    def show(self, columns: Sequence[Column], rows: Sequence[GridRow], heading: Heading | None = None) -> None:
        """Show other rows, and put the cursor on the row that it was on, if that is still there.

        `heading` is asked whenever the table is drawn, since what is in sight changes with the room that is left.
        """
        key = self.current
        self._columns, self._heading = columns, heading
        self._rows = [
            GridRow(row.key, tuple(Span(printable(cell.text), cell.style) for cell in row.cells)) for row in rows
        ]
        found = next((at for at, row in enumerate(self._rows) if row.key == key), self._cursor)
        self._cursor = max(0, min(found, len(self._rows) - 1))
        self._lay_out()
        if self.current != key:
            self.post_message(self.Moved())

    def to_first(self) -> None:
        """Put the cursor on whatever row comes first when rows are shown next."""
        self._rows, self._cursor = (), 0

    def on_resize(self) -> None:
        """There is more or less room."""
        self._lay_out()

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        before = self._cursor
        self._cursor = max(0, min(self._cursor + rows, len(self._rows) - 1))
        if self._cursor != before:
            self._keep_in_sight()
            self.post_message(self.Moved())

    def action_page(self, pages: int) -> None:
        """Move the cursor by what is in sight."""
        self.action_move(pages * max(1, self._page_rows - 1))

    def action_choose(self) -> None:
        """Enter."""
        if self._rows:
            self.post_message(self.Chosen(self.current))

    def render_line(self, y: int) -> Strip:
        """As Textual asks for it."""
        width = self.size.width
        match y - self._header_lines:
            case -3:
                return strip(self.heading, width)
            case -2:
                return strip([Span(self._joined([column.title for column in self._columns]), STRONG)], width)
            case -1:
                return strip([Span("-" * width, QUIET)], width)
            case row_in_sight:
                at = self._top + row_in_sight
        if at >= len(self._rows):
            return Strip.blank(width)
        base = CURSOR if at == self._cursor and self.has_focus else PLAIN
        return strip(self._spans(self._rows[at]), width, base)

    @property
    def _header_lines(self) -> int:
        return _HEADER_LINES + (self._heading is not None)

    @property
    def _page_rows(self) -> int:
        return max(1, self.size.height - self._header_lines)

    def _spans(self, row: GridRow) -> list[Span]:
        spans = []
        last = len(self._columns) - 1
        for at, (cell, column, width) in enumerate(zip(row.cells, self._columns, self._widths, strict=True)):
            spans.append(Span(fitted(cell.text, width, right=column.right, keep_end=column.keep_end), cell.style))
            if at != last:
                spans.append(Span(self._separator))
        return spans

    def _joined(self, texts: Sequence[str]) -> str:
        return self._separator.join(
            fitted(text, width, right=column.right)
            for text, width, column in zip(texts, self._widths, self._columns, strict=True)
        )

    def _lay_out(self) -> None:
        self._widths = [max(column.width, cell_len(column.title)) for column in self._columns]
        for row in self._rows:
            for at, cell in enumerate(row.cells):
                length = len(cell.text) if cell.text.isascii() else cell_len(cell.text)
                if length > self._widths[at]:
                    self._widths[at] = length
        room = self.size.width - cell_len(self._separator) * max(0, len(self._columns) - 1)
        flexible = [at for at, column in enumerate(self._columns) if column.flexible]
        for at, width in enumerate(self._widths):
            if at not in flexible:
                self._widths[at] = min(width, _COLUMN_MAX)
        for at in flexible:
            others = sum(self._widths) - self._widths[at]
            self._widths[at] = max(_FLEXIBLE_MIN, min(self._widths[at], room - others))
        self._keep_in_sight()

    def _keep_in_sight(self) -> None:
        page = self._page_rows
        self._top = max(0, min(self._top, len(self._rows) - page))
        self._top = min(self._top, self._cursor)
        self._top = max(self._top, self._cursor - page + 1)
        self.refresh()
