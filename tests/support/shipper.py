"""A metadata server for acceptance tests: a tree of actions files, and the installed `hsm-action-shipper` on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import redis

from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.errors import SupervisorError
from hsm_shipper.supervision.supervisord import WORKER_PREFIX, Program, Supervisor, socket_path
from tests.support.waiting import DEADLINE_S, eventually

COMMAND = Path(sys.executable).with_name("hsm-action-shipper")
SUPERVISORCTL = COMMAND.with_name("supervisorctl")
DEBUGFS = Path("sys/kernel/debug/lustre/mdt")
_ALIVE = ("STARTING", "RUNNING")  # the latter only after its `startsecs`


def action_line(rec_idx: int, status: str = "WAITING") -> bytes:
    """One line of a Lustre 2.15 listing, with its newline."""
    return (
        b"lrh=[type=10680000 len=136 idx=1/%d] fid=[0x200000401:0x%x:0x0] dfid=[0x200000401:0x%x:0x0] "
        b"compound/cookie=0x0/0x%x action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 "
        b"datalen=0 status=%s data=[]\n" % (rec_idx, rec_idx, rec_idx, 0x6B000000 + rec_idx, status.encode())
    )


class MetadataServer:
    """One server in a folder of its own, with a short name: socket paths are limited to 108 bytes.

    `redis_port` and `redis_db` are where it ships to; `keys` are further keys of its configuration.
    """

    def __init__(self, redis_port: int, redis_db: int = 0, **keys: object) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hsm", dir="/tmp"))
        self.mdt_folder = self.root / DEBUGFS
        self.mdt_folder.mkdir(parents=True)
        self.state_dir = self.root / "state"
        self.run_dir = self.root / "run"
        self.config = self.root / "shipper.yaml"
        self.log = self.root / "log"
        self.redis = redis.Redis("127.0.0.1", redis_port, redis_db, protocol=2)
        self.keys: dict[str, object] = {
            "mdt_watch_glob": f"{self.mdt_folder}/*-MDT????/hsm/actions",
            "poll_interval": 0.5,
            "redis_host": "127.0.0.1",
            "redis_port": redis_port,
            "redis_db": redis_db,
            "state_dir": str(self.state_dir),
            "run_dir": str(self.run_dir),
        }
        self.configure(**keys)
        self._process: subprocess.Popen[bytes] | None = None
        self.supervisor = Supervisor(self.run_dir, self.state_dir)

    def configure(self, **keys: object) -> None:
        """Change keys of the configuration file; JSON is YAML."""
        self.keys |= keys
        self.config.write_text(json.dumps(self.keys))

    def environ(self) -> dict[str, str]:
        """The configuration as variables, and the installed command on the PATH."""
        keys = {f"HSM_{key.upper()}": str(value) for key, value in self.keys.items()}
        return keys | {"PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}

    def add_mdt(self, mdt: str, *lines: bytes) -> Path:
        """Mount an MDT with these lines; returns its actions file."""
        actions = self.mdt_folder / mdt / "hsm/actions"
        # Folder and file appear together in debugfs.
        draft = self.root / f"{mdt}.mounting"
        (draft / "hsm").mkdir(parents=True)
        (draft / "hsm/actions").write_bytes(b"".join(lines))
        draft.rename(self.mdt_folder / mdt)
        return actions

    def remove_mdt(self, mdt: str) -> None:
        """Unmount it."""
        (self.mdt_folder / mdt).rename(self.root / f"{mdt}.unmounting")
        shutil.rmtree(self.root / f"{mdt}.unmounting")

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end with this server's configuration."""
        command = [str(COMMAND), "-c", str(self.config), *arguments]
        environment = clean_environment() | environ
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def supervisorctl(self, *arguments: str) -> str:
        """What `supervisorctl` prints, started from a folder of no importance."""
        command = [str(SUPERVISORCTL), "-s", f"unix://{socket_path(self.run_dir)}", *arguments]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        return done.stdout + done.stderr

    def start(
        self,
        stderr: int | None = None,
        before: Callable[[], None] | None = None,
        command: Sequence[str] = (),
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start the shipper in the foreground, its log in `log`, and wait until supervisord answers.

        With `command`, as something else starts it, which names no configuration: then `environ` has it.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command or [str(COMMAND), "-c", str(self.config)],
                env=clean_environment() | dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                preexec_fn=before,
            )
        eventually(lambda: self._check_alive() and self.answers())

    def _check_alive(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"hsm-action-shipper ended with {self._process.returncode}: {self.log.read_text()}")
        return True

    def answers(self) -> bool:
        """Whether supervisord answers."""
        try:
            self.supervisor.pid()
        except SupervisorError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop the shipper in the foreground; returns its exit status."""
        assert self._process is not None
        self._process.send_signal(how)
        return self.wait_end()

    def wait_end(self) -> int:
        """Wait until the shipper in the foreground has ended; returns its exit status."""
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    @property
    def pid(self) -> int:
        """The shipper in the foreground."""
        assert self._process is not None
        return self._process.pid

    def programs(self) -> Mapping[str, Program]:
        """The programs of supervisord; none while it does not answer."""
        try:
            return self.supervisor.programs()
        except SupervisorError:
            return {}

    def worker(self, mdt: str) -> Program | None:
        """The worker's program."""
        return self.programs().get(WORKER_PREFIX + mdt)

    def is_running(self, *mdts: str) -> bool:
        """Whether these MDTs, and no others, have a worker that runs."""
        programs = self.programs()
        workers = {name for name in programs if name.startswith(WORKER_PREFIX)}
        wanted = {WORKER_PREFIX + mdt for mdt in mdts}
        return workers == wanted and all(programs[name].state == "RUNNING" for name in wanted)

    def wait_running(self, *mdts: str) -> None:
        """Wait until exactly these MDTs have a worker that runs."""
        eventually(lambda: self.is_running(*mdts))

    def wait_all_running(self) -> None:
        """Wait until supervisord calls every program RUNNING; cheaper than asking by commands."""
        eventually(lambda: (seen := self.programs()) and {each.state for each in seen.values()} == {"RUNNING"})

    def wait_polled_by(self, mdt: str) -> None:
        """Wait until the worker of `mdt` has made a poll: to supervisord it runs before it has even been imported."""
        eventually(lambda: self.redis.exists(heartbeat_key("hsm:actions", mdt)))

    def wait_pid_changed(self, name: str, old_pid: int) -> int:
        """Wait until the program `name` has another process; returns its pid."""

        def changed() -> int:
            program = self.programs().get(name)
            return program.pid if program and program.state in _ALIVE and program.pid != old_pid else 0

        return eventually(changed)

    def events(self, mdt: str) -> list[dict[str, Any]]:
        """Every event in the stream of `mdt`."""
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(f"hsm:actions:{mdt}"))
        return [json.loads(fields[b"data"]) for _, fields in entries]

    def wait_status_ok(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Wait until `status` finds no trouble, and return what it printed then: the next poll may be late again."""

        def shown() -> subprocess.CompletedProcess[str] | None:
            done = self.run("status", *arguments)
            return done if done.returncode == 0 else None

        done = eventually(shown)
        assert done is not None
        return done

    def wait_events(self, mdt: str, count: int) -> list[dict[str, Any]]:
        """Wait until the stream of `mdt` holds `count` events; returns them."""
        eventually(lambda: len(self.events(mdt)) >= count)
        events = self.events(mdt)
        assert len(events) == count
        return events

    def processes(self) -> dict[int, str]:
        """Command lines, by pid, of every process that was started for this server."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if f"{self.root}/" in command:
                    found[int(folder.name)] = command
        return found

    def close(self) -> None:
        """Kill what is left, and remove the folder."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)
        eventually(lambda: not self.processes())
        self.redis.close()
        shutil.rmtree(self.root)


def clean_environment() -> dict[str, str]:
    """The environment without what would change the shipper's configuration, or have it talk to a systemd."""
    left_out = ("HSM_", "SHIPPER_", "NOTIFY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
