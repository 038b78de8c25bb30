"""The diagram that a benchmark draws: well-formed, every point within its frame, straight where a cost is linear."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from benchmarks.plot import svg

_SVG = "{http://www.w3.org/2000/svg}"
SIZES = (10_000, 100_000, 1_000_000, 2_000_000)


def test_what_is_in_proportion_to_the_size_is_a_line_beside_the_dashed_one() -> None:
    curves = {"a poll": [(n, n * 2e-7) for n in SIZES], "a <first> ship": [(n, n * 1e-5) for n in SIZES]}
    drawing = ElementTree.fromstring(svg(curves, "lines", "seconds"))
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    [dashed] = [line.attrib for line in drawing.iter(f"{_SVG}line") if "stroke-dasharray" in line.attrib]
    rise, run = (float(dashed[f"{axis}2"]) - float(dashed[f"{axis}1"]) for axis in "yx")
    drawn = [_points(line) for line in drawing.iter(f"{_SVG}polyline")]
    assert len(drawn) == 2
    for points in drawn:
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
        slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairwise(points)]
        assert slopes == pytest.approx([rise / run] * 3, rel=0.01)
    names = {text.text for text in drawing.iter(f"{_SVG}text")}
    assert names >= {"a poll", "a <first> ship", "lines", "seconds", "1,000,000"}


def _points(line: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = (point.split(",") for point in line.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]
