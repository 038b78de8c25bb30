"""What is no duration beside a floor: bytes, shares of a processor, counts. As rows of a table and of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tabulate import tabulate

_HEADERS = ("what", "median", "min … max", "unit", "aim", "reached")
_ALIGNMENT = ("left", "right", "right", "left", "right", "right")


@dataclass(frozen=True)
class Figure:
    """Something that was measured once or more; an `aim` is what its median may be at most."""

    what: str
    unit: str
    values: Sequence[float]
    aim: float | None = None

    @property
    def median(self) -> float:
        """What it comes to."""
        return median(self.values)

    @property
    def is_reached(self) -> bool | None:
        """Whether the aim is; None without one."""
        return None if self.aim is None else self.median <= self.aim

    def for_machines(self) -> dict[str, Any]:
        """The figure as a JSON object."""
        return {
            "what": self.what,
            "unit": self.unit,
            "values": list(self.values),
            "median": self.median,
            "aim": self.aim,
            "reached": self.is_reached,
        }

    def for_people(self) -> tuple[str, ...]:
        """The cells of the table."""
        reached = {None: "", True: "yes", False: "NO"}[self.is_reached]
        spread = f"{_shown(min(self.values))} … {_shown(max(self.values))}" if len(self.values) > 1 else ""
        aim = "" if self.aim is None else f"≤ {_shown(self.aim)}"
        return self.what, _shown(self.median), spread, self.unit, aim, reached


def table(figures: Sequence[Figure]) -> str:
    """The figures for people."""
    rows = [figure.for_people() for figure in figures]
    return tabulate(rows, _HEADERS, disable_numparse=True, colalign=_ALIGNMENT)


def _shown(value: float) -> str:
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
