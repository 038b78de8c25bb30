"""Two metadata servers, their MDTs, and what they ship to: what faults are done to."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import redis

from hsm_shipper.state.poll_status import state_file
from hsm_shipper.supervision.supervisord import WORKER_PREFIX
from tests.simulator import SimulatedMds, SimulatedMdt, Workload, populate
from tests.support.shipper import MetadataServer
from tests.support.waiting import eventually
from tests.torture.brokers import SERVER, start_broker
from tests.torture.judge import Judge

AGREEMENT_MAX_S = 120.0
"""Later than that it counts as lost."""
POLL_INTERVAL_S = 0.5
HOSTS = ("mds1", "mds2")
_CLOCK_SOURCE = Path(__file__).with_name("clock.c")
_STATE_MB = 24


class Host(MetadataServer):
    """A metadata server with a state folder on a small file system of its own, and a clock that can be set."""

    def __init__(self, name: str, broker_keys: Mapping[str, object]) -> None:
        super().__init__(0, 0, host=name, poll_interval=POLL_INTERVAL_S, reconcile_interval=15)
        for key in ("redis_host", "redis_port", "redis_db"):
            del self.keys[key]
        self.configure(**broker_keys)
        self.mds = SimulatedMds(self.root)
        self.state_dir.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_STATE_MB}m,mode=750", "tmpfs", str(self.state_dir)]
        self.has_small_disk = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._clock = self.root / "clock"
        self._clock.write_bytes(struct.pack("l", 0))
        self._clock_library = self.root / "clock.so"
        compiler = ["cc", "-shared", "-fPIC", "-O2", "-o", str(self._clock_library), str(_CLOCK_SOURCE), "-ldl"]
        self.has_clock = shutil.which("cc") is not None and subprocess.run(compiler, check=False).returncode == 0

    def set_clock(self, ahead_s: int) -> None:
        """Have the host's programs see a clock that is so much ahead."""
        with self._clock.open("r+b") as file:
            file.write(struct.pack("l", ahead_s))

    def begin(self) -> None:
        """Start the shipper."""
        with mock.patch.dict(os.environ, self._clock_environment()):
            self.start()

    def ask(self, command: str) -> tuple[int, str]:
        """What `status` or `check` says on this host, by its clock: exit status and output."""
        done = self.run(command, **self._clock_environment())
        return done.returncode, done.stdout + done.stderr

    def _clock_environment(self) -> dict[str, str]:
        if not self.has_clock:
            return {}
        return {"LD_PRELOAD": str(self._clock_library), "TORTURE_CLOCK": str(self._clock)}

    def begin_if_ended(self) -> bool:
        """Start it again where it is not there any more: a supervisor of its own (systemd) does so."""
        if self._process is not None and self._process.poll() is None:
            return False
        self.begin()
        return True

    def end(self) -> None:
        """Kill everything, and remove the folders."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.processes())
        while os.path.ismount(self.state_dir):
            subprocess.run(["umount", "-l", str(self.state_dir)], check=True)
        self.close()

    def pid_of(self, kind: str, rng: random.Random) -> int | None:
        """The process of a program: `worker` (one of them), `discovery`, `maintenance`, or supervisord itself."""
        if kind == "supervisord":
            return self.pid
        for _ in range(50):  # it may be about to be started
            pids = self._pids_of(kind)
            if pids:
                return rng.choice(pids)
            time.sleep(0.1)
        return None

    def _pids_of(self, kind: str) -> list[int]:
        programs = self.programs()
        return [
            each.pid
            for name, each in sorted(programs.items())
            if each.pid and (name.startswith(WORKER_PREFIX) if kind == "worker" else name == kind)
        ]


class Site:
    """All of it. Everything random comes of `seed`, but for what real processes do in what order."""

    def __init__(self, folder: Path, seed: int, broker: str = SERVER) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.broker = start_broker(broker, folder, seed)
        self.client = self.broker.client
        self.until_shown: Callable[[Callable[[], None]], None] | None = None
        """Set where it is looked for how a fault shows: goes on until it does, and does what it is given meanwhile."""
        self.hosts = {name: Host(name, self.broker.keys) for name in HOSTS}
        self.workloads: dict[str, Workload] = {}
        self.home: dict[str, str] = {}
        self.judges: dict[str, Judge] = {}
        for number, count in enumerate((20, 400, 3)):
            self._add_mdt(f"elm-MDT{number:04x}", HOSTS[number % 2], seed, count)
        for host in self.hosts.values():
            host.begin()

    def _add_mdt(self, name: str, host: str, seed: int, count: int) -> None:
        mdt = SimulatedMdt(name, seed=seed)
        populate(mdt, count)
        mdt.mount(self.hosts[host].mds)
        self.workloads[name] = Workload(mdt, arrivals_per_s=2)
        self.home[name] = host
        self.judges[name] = Judge(self.client, f"hsm:actions:{name}")
        self.judges[name].lists(mdt.lines())

    def mount(self, name: str, host: str) -> None:
        """Mount an MDT that is mounted nowhere; its restores begin anew."""
        self.home[name] = host
        mdt = self.workloads[name].mdt
        mdt.mount(self.hosts[host].mds)
        self.judges[name].lists(mdt.lines())

    def advance(self, seconds: float = 3) -> None:
        """Let actions come and go."""
        for name, workload in self.workloads.items():
            workload.advance(seconds)
            self.judges[name].lists(workload.mdt.lines())
            workload.mdt.write()

    @property
    def is_held(self) -> bool:
        """Whether the fault that is done now is to last until it shows, and so has to be one that does."""
        return self.until_shown is not None

    def last(
        self, shortest_s: float, longest_s: float, seconds: float = 3, again: Callable[[], None] = lambda: None
    ) -> None:
        """Let a fault last: at random so long, or until it shows, with what it takes to do it `again` and again.

        Meanwhile actions come and go.
        """
        self.advance(seconds)
        if self.until_shown is not None:
            self.until_shown(again)
        else:
            time.sleep(self.rng.uniform(shortest_s, longest_s))

    def state_of(self, name: str) -> Path:
        """The state file of an MDT, where it is mounted."""
        return state_file(self.hosts[self.home[name]].state_dir, name)

    def any_mdt(self) -> str:
        """One of the MDTs."""
        return self.rng.choice(sorted(self.workloads))

    def log_bytes(self) -> dict[str, int]:
        """How long the logs are."""
        return {name: host.log.stat().st_size for name, host in self.hosts.items()}

    def logged_since(self, lengths: Mapping[str, int], *names: str) -> str:
        """What the hosts, or those named, logged since `lengths`."""
        said = []
        for name in names or self.hosts:
            with self.hosts[name].log.open("rb") as log:
                log.seek(lengths[name])
                said.append(log.read().decode(errors="replace"))
        return "\n".join(said)

    def settle(self, *, forgives: bool) -> tuple[float, int]:
        """Wait for exact agreement: the seconds that it took, and how many places differ where it never came."""
        begun = time.monotonic()
        while True:
            differ = 0
            for judge in self.judges.values():
                try:
                    judge.read(forgives=forgives)
                    differ += judge.difference()
                except (redis.RedisError, redis.exceptions.RedisClusterException):
                    differ += 1
            took = time.monotonic() - begun
            if not differ or took > AGREEMENT_MAX_S:
                return took, differ
            time.sleep(0.05)

    def close(self) -> None:
        """End everything."""
        for host in self.hosts.values():
            host.end()
        self.broker.close()
        shutil.rmtree(self.folder, ignore_errors=True)
