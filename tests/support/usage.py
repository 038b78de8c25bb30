"""What a process takes, and whether that stays as it is."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None, status
    return int(match[1])


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


class Course(NamedTuple):
    """How something went: the median of the middle third of its samples, that of the last third, and the most."""

    middle: float
    last: float
    most: float

    @property
    def growth(self) -> float:
        """From the middle third to the last one. The first third is for warming up."""
        return self.last - self.middle


def course_of(samples: Sequence[float]) -> Course:
    """Of samples that were taken at equal distances, three at least."""
    third = len(samples) // 3
    assert third, f"{len(samples)} samples tell nothing"
    middle, last = samples[third : 2 * third], samples[2 * third :]
    return Course(statistics.median(middle), statistics.median(last), max(samples))
