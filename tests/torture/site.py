"""Two metadata servers, their MDTs, and a Redis behind a proxy: what faults are done to."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path
from unittest import mock

import redis

from hsm_shipper.state.poll_status import state_file
from hsm_shipper.supervision.supervisord import WORKER_PREFIX
from tests.simulator import SimulatedMds, SimulatedMdt, Workload, populate
from tests.support.servers import RedisServer
from tests.support.shipper import MetadataServer
from tests.support.waiting import eventually
from tests.torture.judge import Judge
from tests.torture.proxy import Proxy

AGREEMENT_MAX_S = 120.0
"""Later than that it counts as lost."""
HOSTS = ("mds1", "mds2")
_CLOCK_SOURCE = Path(__file__).with_name("clock.c")
_STATE_MB = 24


class Host(MetadataServer):
    """A metadata server with a state folder on a small file system of its own, and a clock that can be set."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(port, 0, host=name, poll_interval=0.5, reconcile_interval=15)
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
        clock = {"LD_PRELOAD": str(self._clock_library), "TORTURE_CLOCK": str(self._clock)}
        with mock.patch.dict(os.environ, clock if self.has_clock else {}):
            self.start()

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

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.broker = RedisServer(folder / "redis", {"appendonly": "yes", "appendfsync": "always"}).start()
        self.client: redis.Redis = self.broker.client()
        self.proxy = Proxy(self.broker, seed)
        self.hosts = {name: Host(name, self.proxy.port) for name in HOSTS}
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
        self.judges[name] = Judge(self.client, f"hsm:actions:{name}", mdt.lines)
        self.judges[name].ever.update(mdt.lines())

    def mount(self, name: str, host: str) -> None:
        """Mount an MDT that is mounted nowhere; its restores begin anew."""
        self.home[name] = host
        mdt = self.workloads[name].mdt
        mdt.mount(self.hosts[host].mds)
        self.judges[name].ever.update(mdt.lines())

    def advance(self, seconds: float = 3) -> None:
        """Let actions come and go."""
        for name, workload in self.workloads.items():
            workload.advance(seconds)
            self.judges[name].ever.update(workload.mdt.lines())
            workload.mdt.write()

    def state_of(self, name: str) -> Path:
        """The state file of an MDT, where it is mounted."""
        return state_file(self.hosts[self.home[name]].state_dir, name)

    def any_mdt(self) -> str:
        """One of the MDTs."""
        return self.rng.choice(sorted(self.workloads))

    def log_bytes(self) -> dict[str, int]:
        """How long the logs are."""
        return {name: host.log.stat().st_size for name, host in self.hosts.items()}

    def logged_since(self, lengths: dict[str, int]) -> str:
        """What the hosts logged since `lengths`."""
        said = []
        for name, host in self.hosts.items():
            said.append(host.log.read_bytes()[lengths[name] :].decode(errors="replace"))
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
                except redis.RedisError:
                    differ += 1
            took = time.monotonic() - begun
            if not differ or took > AGREEMENT_MAX_S:
                return took, differ
            time.sleep(0.1)

    def close(self) -> None:
        """End everything."""
        for host in self.hosts.values():
            host.end()
        self.proxy.close()
        self.broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
