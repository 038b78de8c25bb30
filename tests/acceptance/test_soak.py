"""As many polls as a day has, one behind the other: what it takes stays as it is."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from hsm_shipper.contract.trim_bound import length_bound
from hsm_shipper.state.poll_status import state_file
from tests.simulator import SimulatedMdt, Workload, populate
from tests.support.site import MDT, STREAM, SimulatedServer, is_true
from tests.support.usage import Course, course_of, descriptors, resident_kib
from tests.support.waiting import eventually

INTERVAL_S = 20  # of the default configuration, which the simulated clock keeps
POLLS_A_DAY = 24 * 3600 // INTERVAL_S
RECONCILIATIONS_A_DAY = 4
SAMPLES = 90
GROWTH_MAX_KIB = 4096
LOG_BYTES_A_POLL = 1000
WAL_MAX_BYTES = 64 * 1024 * 1024


class Day:
    """A server on which polls follow each other as fast as they can, and what it took meanwhile."""

    def __init__(self, server: SimulatedServer, mdt: SimulatedMdt) -> None:
        self.server = server
        self.mdt = mdt
        self._workload = Workload(mdt, arrivals_per_s=2)
        self.samples: dict[str, list[float]] = defaultdict(list)

    def poll(self, count: int) -> None:
        """Let so many intervals pass, with a poll at least in each."""
        for _ in range(count):
            self._workload.advance(INTERVAL_S)
            self.mdt.write()
            self.server.wait_polled(self.mdt, 1)

    def sample(self) -> None:
        """Take down what there is now."""
        pids = {name: program.pid for name, program in self.server.programs().items()}
        for name, pid in {**pids, "supervisord": self.server.pid}.items():
            self.samples[f"{name}, KiB"].append(resident_kib(pid))
            self.samples[f"{name}, descriptors"].append(descriptors(pid))
        state = state_file(self.server.state_dir, MDT)
        for suffix in ("", "-wal"):
            path = state.with_name(state.name + suffix)
            self.samples[f"{path.name}, bytes"].append(path.stat().st_size if path.exists() else 0)
        self.samples["state_dir and run_dir, files"].append(
            sum(len([*folder.rglob("*")]) for folder in (self.server.state_dir, self.server.run_dir))
        )
        length = self.server.redis.xlen(STREAM)
        self.samples["stream, entries"].append(length)
        self.samples["stream, entries above its bound"].append(length - 2 * length_bound(len(self.mdt.lines())))
        self.samples["log, bytes"].append(self.server.log.stat().st_size)

    def courses(self) -> dict[str, Course]:
        """How each went, printed."""
        found = {name: course_of(samples) for name, samples in sorted(self.samples.items())}
        for name, course in found.items():
            print(f"{name}: {course.middle:,.0f}, 8 h later {course.last:,.0f}, most {course.most:,.0f}")
        return found


def grown(day: Day, polls: int) -> list[str]:
    """What has not stayed as it was."""
    wrong = []
    for name, course in day.courses().items():
        if name.endswith("KiB"):
            is_flat = course.growth < GROWTH_MAX_KIB
        elif name.startswith("log"):
            is_flat = course.most < polls * LOG_BYTES_A_POLL
        elif name.endswith("-wal, bytes"):
            is_flat = course.most < WAL_MAX_BYTES
        elif name.endswith("above its bound"):
            is_flat = course.last <= 0
        elif name.endswith("bytes"):
            is_flat = course.growth < 0.2 * course.middle + 65_536
        else:  # descriptors, files, entries
            is_flat = course.growth <= max(2, 0.2 * course.middle)
        if not is_flat:
            wrong.append(f"{name}: {course}")
    return wrong


@pytest.fixture
def day(server: SimulatedServer, tmp_path: Path) -> Day:
    mdt = SimulatedMdt(MDT)
    populate(mdt, 2000)
    mdt.mount(server.mds)
    return Day(server, mdt)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_day_of_polls_leaves_memory_descriptors_files_log_and_stream_flat(day: Day) -> None:
    server = day.server
    polls_a_second = 10  # or so
    server.configure(reconcile_interval=POLLS_A_DAY // polls_a_second // RECONCILIATIONS_A_DAY)
    server.start_polled(day.mdt)
    eventually(lambda: is_true(server.redis, day.mdt))
    for _ in range(SAMPLES):
        day.poll(POLLS_A_DAY // SAMPLES)
        day.sample()
    assert grown(day, POLLS_A_DAY) == []
    eventually(lambda: is_true(server.redis, day.mdt))
