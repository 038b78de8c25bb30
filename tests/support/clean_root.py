"""A system in a folder, of which nothing is there but what its distribution says: packages are installed in it.

Its commands see no other files (chroot), and have no network where `make packages-test` runs the tests.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.support.units import Systemd, setting
from tests.support.waiting import DEADLINE_S

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ASKED = "run/systemctl.asked"


class CleanRoot:
    """The system below `base`, and over it, in memory, what is changed; `close` removes that.

    What is mounted is seen by this process and its children only, if `unshare --mount` has started it.
    """

    def __init__(self, base: Path, scratch: Path) -> None:
        self.path = scratch / "root"
        self._changes = scratch / "changes"
        upper, work = self._changes / "upper", self._changes / "work"
        self.path.mkdir()
        self._changes.mkdir()
        _mount("tmpfs", "tmpfs", self._changes)
        upper.mkdir()
        work.mkdir()
        _mount("overlay", "overlay", self.path, f"lowerdir={base},upperdir={upper},workdir={work}")
        _mount("proc", "proc", self.path / "proc")

    def close(self) -> None:
        """Remove it. What still runs in it must have been ended."""
        subprocess.run(["umount", "--recursive", self.path], check=True)
        subprocess.run(["umount", self._changes], check=True)

    def __truediv__(self, path: str) -> Path:
        return self.path / path

    def run(self, *command: str, status: int | None = 0, environment: Mapping[str, str] | None = None) -> str:
        """What a command in it prints, on both outputs together; `status` is what it must end with, None for any."""
        done = subprocess.run(
            self.words(*command),
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S * 2,
            check=False,
        )
        assert status is None or done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def words(self, *command: str) -> Sequence[str]:
        """The command line with which the system outside runs `command` in it."""
        return ("chroot", str(self.path), *command)

    def bring(self, *files: Path) -> list[str]:
        """Copy files into its /tmp; returns where they are for its commands."""
        for file in files:
            shutil.copy(file, self.path / "tmp")
        return [f"/tmp/{file.name}" for file in files]

    def pretend_systemd(self) -> None:
        """Have scriptlets find systemd running; `asked` has what they ask of it, and nothing is done."""
        (self.path / "run/systemd/system").mkdir(parents=True)
        systemctl = self.path / "usr/bin/systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$*" >>/{_ASKED}\n')
        systemctl.chmod(0o755)

    def start(self, unit: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Run the ExecStart of an installed unit as it stands; returns once it says that it is ready."""
        systemd = Systemd(self.path / "run")
        try:
            words = shlex.split(setting(self.path / "usr/lib/systemd/system" / unit, "Service.ExecStart"))
            environment = {"PATH": _PATH, "NOTIFY_SOCKET": "/run/notify"}
            process = subprocess.Popen(self.words(*words), env=environment, stdin=subprocess.DEVNULL, stderr=log)
            systemd.hear_until(READY="1")
        finally:
            systemd.close()
            (self.path / "run/notify").unlink()
        return process

    def asked(self) -> list[str]:
        """What systemctl was asked since the last time."""
        asked = self.path / _ASKED
        lines = asked.read_text().splitlines() if asked.exists() else []
        with contextlib.suppress(FileNotFoundError):
            asked.unlink()
        return lines


def _mount(kind: str, what: str, where: Path, options: str = "rw") -> None:
    subprocess.run(["mount", "--types", kind, "--options", options, what, where], check=True)
