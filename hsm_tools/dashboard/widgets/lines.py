"""A widget of text lines. Nothing in them is ever taken for markup, or could be obeyed by the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from hsm_shipper.process.output import printable
from hsm_tools.dashboard.widgets.styles import PLAIN

_FOLDED_MAX = 4


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style = PLAIN


Line = tuple[Span, ...]


def line(*spans: Span | str) -> Line:
    """A line of pieces, made fit for a terminal."""
    return tuple(
        Span(printable(span)) if isinstance(span, str) else Span(printable(span.text), span.style) for span in spans
    )


def plain(spans: Sequence[Span]) -> str:
    """A line without its colours."""
    return "".join(span.text for span in spans)


def strip(spans: Sequence[Span], width: int, base: Style = PLAIN) -> Strip:
    """A line as Textual draws it: cut or filled to `width` columns, `base` below the styles of its pieces."""
    segments = [Segment(span.text, base + span.style) for span in spans]
    return Strip(segments).adjust_cell_length(width, base)


def fitted(text: str, width: int, *, right: bool = False, keep_end: bool = False) -> str:
    """`text` in exactly `width` columns; where its end, or with `keep_end` its beginning, is cut, there is a tilde."""
    if cell_len(text) > width:
        if keep_end and width:
            return f"~{set_cell_size(text[::-1], width - 1)[::-1]}"
        return f"{set_cell_size(text, width - 1)}~" if width else ""
    wanted = set_cell_size(text, width)
    return f"{' ' * (len(wanted) - len(text))}{text}" if right else wanted


def folded(text: str, width: int) -> list[Line]:
    """`text`, made fit for a terminal, in as many lines as it takes; at most a few of them."""
    return [line(part) for part in chop_cells(printable(text), max(1, width))[:_FOLDED_MAX]]


class Lines(Widget):
    """Lines of text, as high as they are many."""

    DEFAULT_CSS = "Lines { height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: Sequence[Line] = ()

    @property
    def text(self) -> str:
        """What it shows, without colours."""
        return "\n".join(map(plain, self._lines))

    def show(self, lines: Sequence[Line]) -> None:
        """Show other lines."""
        if lines != self._lines:
            resized = len(lines) != len(self._lines)
            self._lines = lines
            self.refresh(layout=resized)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's
        """As Textual asks for it."""
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """As Textual asks for it."""
        if y >= len(self._lines):
            return Strip.blank(self.size.width)
        return strip(self._lines[y], self.size.width)
