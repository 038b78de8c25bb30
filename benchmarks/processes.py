"""What running processes have cost so far, as the kernel counts it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# By the lines of its list.
_WORKER_MEMORY_AIMS_MB = {100_000: 48.0, 350_000: 64.0, 1_000_000: 110.0}


def cpu_s(pids: Iterable[int]) -> float:
    """Processor seconds that these processes, all their threads included, have taken; proc_pid_stat(5)."""
    return sum(sum(map(int, _fields(pid)[11:13])) for pid in pids) / _TICKS_PER_S


def peak_mb(pid: int) -> float:
    """The most memory that the process ever had; proc_pid_status(5).

    Not ru_maxrss: that survives exec(2), so a child starts with what its parent had when it forked.
    """
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM") * 1024 / 1e6


def worker_memory_aim_mb(lines: int) -> float:
    """The most memory that the worker of an MDT with so many lines is to have."""
    return next((aim_mb for most, aim_mb in _WORKER_MEMORY_AIMS_MB.items() if lines <= most), math.inf)


def shared_out_mb(pids: Iterable[int]) -> float:
    """The memory of these processes together, each page counted once; proc_pid_smaps(5)."""
    return sum(_kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss") for pid in pids) * 1024 / 1e6


def _kib(file: Path, name: str) -> int:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _fields(pid: int) -> list[bytes]:
    """Those behind the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
