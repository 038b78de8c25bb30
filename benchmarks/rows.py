"""What was measured, as rows of a table for people and of JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.child import Run

_HEADERS = ("what", "median", "min … max", "ratio", "min … max", "aim", "reached", "memory", "aim", "reached")
_ALIGNMENT = ("left", *("right",) * 9)


@dataclass
class Row:
    """Something that was run a few times, with a floor: each time beside a run of that."""

    what: str
    floor: Row | None = None
    ratio_aim: float | None = None
    memory_aim_mb: float | None = None
    memory_shown: bool = True
    runs: list[Run] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def add(self, run: Run, beside: Run | None = None) -> None:
        """Count `run`, and `beside`, the run of the floor just before or after it."""
        self.runs.append(run)
        if beside is not None:
            assert self.floor is not None
            if not any(beside is counted for counted in self.floor.runs):  # a floor may be a row of its own
                self.floor.runs.append(beside)
            self.ratios.append(run.duration_s / beside.duration_s)

    @property
    def durations_s(self) -> list[float]:
        """How long each run took."""
        return [run.duration_s for run in self.runs]

    @property
    def ratio(self) -> float | None:
        """How many times the floor it took: the median of what each run took of the one beside it.

        A shared machine may be faster or slower a minute later, and two medians of few runs tell that too.
        """
        return median(self.ratios) if self.ratios else None

    @property
    def peak_mb(self) -> float:
        """The most memory that any of the processes had."""
        return max(run.peak_mb for run in self.runs)

    def for_machines(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {
            "what": self.what,
            "durations_s": self.durations_s,
            "median_s": median(self.durations_s),
            "floor": None if self.floor is None else self.floor.what,
            "ratios": self.ratios,
            "ratio": self.ratio,
            "ratio_aim": self.ratio_aim,
            "ratio_reached": _reached(self.ratio, self.ratio_aim),
            "peak_mb": self.peak_mb,
            "memory_aim_mb": self.memory_aim_mb,
            "memory_reached": _reached(self.peak_mb, self.memory_aim_mb),
        }

    def for_people(self) -> tuple[str, ...]:
        """The cells of the table."""
        return (
            self.what,
            f"{median(self.durations_s):.2f} s",
            f"{min(self.durations_s):.2f} … {max(self.durations_s):.2f}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            f"{min(self.ratios):.2f} … {max(self.ratios):.2f}" if len(self.ratios) > 1 else "",
            *_aim(self.ratio, self.ratio_aim, "≤ {:.2f}"),
            f"{self.peak_mb:.0f} MB" if self.memory_shown else "",
            *_aim(self.peak_mb, self.memory_aim_mb, "≤ {:.0f} MB"),
        )


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    return tabulate([row.for_people() for row in rows], _HEADERS, disable_numparse=True, colalign=_ALIGNMENT)


def _reached(value: float | None, aim: float | None) -> bool | None:
    return None if value is None or aim is None else value <= aim


def _aim(value: float | None, aim: float | None, form: str) -> tuple[str, str]:
    reached = _reached(value, aim)
    return ("", "") if reached is None else (form.format(aim), "yes" if reached else "NO")
