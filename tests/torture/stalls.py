"""When the processors themselves stood still: `python -m tests.torture.stalls CPU FILE` watches one of them.

At times nothing runs on a processor that should, not even what comes before all else: the kernel is at something, or
a virtual machine is left out by its host. A command that Redis was at then is in its slow log, though not for what it
did. A process that is to wake up every few milliseconds, above everything else there, wakes up late by as much.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support.servers import dying_with_parent
from tests.support.waiting import DEADLINE_S

# Above Redis, which is above all others.
_PRIORITY = 2
_EVERY_S = 0.005
_LATE_S = 0.002
# The slow log tells whole seconds.
_AROUND_S = 1.5


class StallWatch:
    """Watches every processor. Without the right to do so (root's) it sees nothing."""

    def __init__(self, folder: Path) -> None:
        self._files = {cpu: folder / f"stalls-{cpu}" for cpu in os.sched_getaffinity(0)}
        self._watchers = []
        for cpu, file in self._files.items():
            file.touch()
            command = [sys.executable, "-m", "tests.torture.stalls", str(cpu), str(file)]
            self._watchers.append(subprocess.Popen(command, preexec_fn=dying_with_parent()))

    def longest_ms(self, at_s: float) -> float:
        """For how long a processor stood still around a time, in seconds since the epoch; 0 where none did."""
        return max((late_ms for ended_s, late_ms in self.all() if abs(ended_s - at_s) <= _AROUND_S), default=0.0)

    def all(self) -> list[tuple[float, float]]:
        """When each ended, in seconds since the epoch, and how many milliseconds it was late."""
        lines = (line.split() for file in self._files.values() for line in file.read_text().splitlines())
        return [(float(ended_s), float(late_ms)) for ended_s, late_ms in lines]

    def close(self) -> None:
        """Watch no more."""
        for watcher in self._watchers:
            watcher.kill()
            watcher.wait(DEADLINE_S)


def main() -> None:
    """Write down, until killed, when this processor woke us up late, and by how many milliseconds."""
    cpu, name = sys.argv[1:]
    os.sched_setaffinity(0, {int(cpu)})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError as error:
        sys.exit(f"stalls of processor {cpu} cannot be watched, and count as ours: {error}")
    with Path(name).open("a", buffering=1) as file:
        while True:
            begun_s = time.monotonic()
            time.sleep(_EVERY_S)
            late_s = time.monotonic() - begun_s - _EVERY_S
            if late_s > _LATE_S:
                file.write(f"{time.time():.3f} {late_s * 1000:.1f}\n")


if __name__ == "__main__":
    main()
