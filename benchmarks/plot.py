"""A diagram of curves over a size, both axes logarithmic, as SVG, with a dashed line that grows like the size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 240, 20, 50
_COLOURS = ("#1b6ca8", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#566573", "#16a085")
# Names at the ends of curves do not overlap.
_NAME_HEIGHT = 16

Points = Sequence[tuple[float, float]]


def svg(curves: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """The diagram of `curves`, whose values are all above 0; each has its name at its right end."""
    every = [point for points in curves.values() for point in points]
    guide = _linear(max(curves.values(), key=lambda points: points[-1][1]))
    x_axis = _Axis([x for x, _ in every], _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis([y for _, y in [*every, *guide]], _HEIGHT - _BOTTOM, _TOP)
    places = [(x_axis.at(x), y_axis.at(y)) for x, y in guide]
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_grid(x_axis, y_axis),
        _line(places[0], places[1], 'stroke-dasharray="5 5" stroke="#888888"'),
        *_curves(curves, x_axis, y_axis),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, x_label, "middle"),
        _text(_LEFT, _TOP - 7, y_label, "start"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _linear(points: Points) -> Points:
    """Twice the last point, and from there back as if it were in proportion to the size."""
    (first, _), (last, value) = points[0], points[-1]
    return [(first, 2 * value * first / last), (last, 2 * value)]


class _Axis:
    """Where values stand between two edges; from a power of ten to a power of ten."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self._low, self._high = floor(log10(min(values))), ceil(log10(max(values)))
        self._high += self._high == self._low
        self.begin, self.end = begin, end

    def at(self, value: float) -> float:
        return self.begin + (self.end - self.begin) * (log10(value) - self._low) / (self._high - self._low)

    def marks(self) -> Iterator[tuple[float, str]]:
        for power in range(self._low, self._high + 1):
            yield self.at(10.0**power), f"{10.0**power:,.{max(0, -power)}f}"


def _grid(x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    for x, label in x_axis.marks():
        yield _line((x, y_axis.begin), (x, y_axis.end))
        yield _text(x, y_axis.begin + 18, label, "middle")
    for y, label in y_axis.marks():
        yield _line((x_axis.begin, y), (x_axis.end, y))
        yield _text(x_axis.begin - 8, y + 4, label, "end")


def _curves(curves: Mapping[str, Points], x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    lowest = float("inf")
    by_end = sorted(curves.items(), key=lambda curve: curve[1][-1][1])
    for (name, points), colour in zip(by_end, _COLOURS, strict=False):
        places = [(x_axis.at(x), y_axis.at(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y in places:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        lowest = min(places[-1][1], lowest - _NAME_HEIGHT)
        yield _text(places[-1][0] + 10, lowest + 4, name, "start", colour)


def _line(begin: tuple[float, float], end: tuple[float, float], more: str = 'stroke="#dddddd"') -> str:
    (x1, y1), (x2, y2) = begin, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
