"""The demo's processes: the installed commands, started so that none of them can outlive the demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import IO

from hsm_shipper.errors import StateError
from hsm_shipper.state.poll_status import PollStatus, read_poll_status, state_file
from tests.support.servers import dying_with_parent
from tests.support.shipper import clean_environment
from tests.support.waiting import DEADLINE_S

from . import SimulatedMds

POLL_INTERVAL_S = 1.0
_SHOWN_LOG_LINES = 8


class DemoError(Exception):
    """The demo cannot go on; the message is one line."""


class Server:
    """A simulated metadata server, and the real `hsm-action-shipper` on it."""

    def __init__(self, name: str, folder: Path, redis_url: str) -> None:
        self.name = name
        self.mds = SimulatedMds(folder / name)
        self.config = folder / f"{name}.yaml"
        self._log = folder / f"{name}.log"
        self._state_dir = folder / name / "state"
        self._process: subprocess.Popen[bytes] | None = None
        keys = {
            "host": name,
            "mdt_watch_glob": self.mds.watch_glob,
            "poll_interval": POLL_INTERVAL_S,
            "redis_url": redis_url,
            "state_dir": str(self._state_dir),
            "run_dir": str(folder / name / "run"),
        }
        self.config.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in keys.items()))

    def start(self) -> None:
        """Start the shipper, its log in a file."""
        with self._log.open("ab") as log:
            self._process = start("hsm-action-shipper", self.config, log)

    def check_runs(self) -> None:
        """Raise `DemoError` if the shipper has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise DemoError(f"{self.name}: hsm-action-shipper ended with exit status {self._process.returncode}")

    def ask_to_stop(self) -> None:
        """Have the shipper stop."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Stop the shipper, and wait until it has ended, which it does after all its processes."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def last_poll(self, mdt: str) -> PollStatus | None:
        """How the last poll of an MDT went; None before the first one."""
        try:
            return read_poll_status(state_file(self._state_dir, mdt))
        except StateError:  # the worker is just making the file
            return None

    def show_status(self) -> None:
        """Print what an administrator would look at."""
        subprocess.run(
            [_installed("hsm-action-shipper"), "-c", self.config, "status"],
            env=clean_environment(),
            timeout=DEADLINE_S,
            check=False,
        )

    def last_words(self) -> list[str]:
        """The end of the shipper's log."""
        if not self._log.exists():
            return []
        return [
            f"{self.name}: {line}" for line in self._log.read_text(errors="replace").splitlines()[-_SHOWN_LOG_LINES:]
        ]


def start(name: str, config: Path, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start an installed command, with its output to where ours goes, or to a file."""
    return subprocess.Popen(
        [_installed(name), "-c", config],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C is for the demo alone, which stops the others in good order
        preexec_fn=dying_with_parent(),
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a process stop, and wait until it has; kill one that does not."""
    process.terminate()
    try:
        process.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _installed(name: str) -> Path:
    return Path(sys.executable).with_name(name)
