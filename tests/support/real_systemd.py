"""A real systemd that runs our units as they stand: a user's manager, in namespaces of its own with which it all ends.

Root's own manager, because the units are root's. It has its own /run, and no journal: services write to a file.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from tests.support.shipper import MetadataServer, clean_environment
from tests.support.units import UNITS
from tests.support.waiting import DEADLINE_S

_SYSTEMD = Path("/lib/systemd/systemd")
# What a service is kept from is covered with these, which a booted system has.
_BOOTED = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/systemd/inaccessible /run/manager /run/home/.config/systemd
cd /run/systemd/inaccessible
mkdir dir; touch reg; mkfifo fifo; mknod chr c 0 0; mknod blk b 0 0
"$PYTHON" -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
chmod 000 *
cd /
ln -s "$UNITS" /run/home/.config/systemd/user
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$CGROUP"
echo 0 > "/sys/fs/cgroup/$CGROUP/cgroup.procs"
umount /sys/fs/cgroup
exec unshare --cgroup --mount sh -euc '
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    "$SYSTEMD" --user --unit=basic.target &
    until systemctl --user list-units; do sleep 0.1; done
    echo booted
    exec sh'
"""
_CGROUP_GOES = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
until find "/sys/fs/cgroup/$CGROUP" -depth -type d -exec rmdir {} +; do sleep 0.1; done
"""


@functools.cache
def why_not() -> str | None:
    """Why none can be had here; None if one can."""
    if os.getuid() != 0 or shutil.which("unshare") is None or not _SYSTEMD.exists():
        return "needs root, unshare and systemd (Debian: apt-get install systemd)"
    tried = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-euc"]
    script = "mount --make-rprivate /; mount -t cgroup2 cgroup2 /sys/fs/cgroup; mkdir $0; rmdir $0"
    command = [*tried, script, f"/sys/fs/cgroup/{uuid.uuid4()}"]
    if subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False).returncode != 0:
        return "needs a kernel and a container that allow namespaces and a control group"
    return None


class RealSystemd:
    """The manager, with our units, whose services work for `server`."""

    def __init__(self, server: MetadataServer) -> None:
        units = server.root / "units"
        shutil.copytree(UNITS, units)
        self.log = server.root / "units.log"
        for unit in units.glob("*.service"):
            (units / f"{unit.name}.d").mkdir()
            (units / f"{unit.name}.d/here.conf").write_text(self._drop_in(server))
        self._environ = clean_environment() | {
            "XDG_RUNTIME_DIR": "/run/manager",  # not below /run/user, which ProtectHome hides
            "HOME": "/run/home",
            "UNITS": str(units),
            "CGROUP": f"hsm-{uuid.uuid4()}",
            "SYSTEMD": str(_SYSTEMD),
            "PYTHON": sys.executable,
        }
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._shell = subprocess.Popen(
            [*namespaces, "sh", "-euc", _BOOTED],
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read_to("booted")

    def _drop_in(self, server: MetadataServer) -> str:
        """Its paths and Redis, and what hides the Python of these tests on a machine that has it in a home."""
        keys = server.environ() | {"HSM_STATE_DIR": "%S/hsm-shipper", "HSM_RUN_DIR": "%t/hsm-shipper"}
        lines = [f'Environment="{name}={value}"' for name, value in keys.items()]
        seen = {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2], server.root}
        return "\n".join(
            [
                "[Service]",
                *lines,
                f"StandardError=append:{self.log}",
                "ProtectHome=tmpfs",
                *(f"BindReadOnlyPaths={path}" for path in sorted(seen)),
                "ReadWritePaths=-%S/hsm-shipper",
                "",
            ]
        )

    def run(self, command: str) -> str:
        """What a command of the shell prints, and last its exit status."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{command}\necho $? done\n")
        self._shell.stdin.flush()
        return self._read_to("done")

    def ctl(self, command: str) -> int:
        """The exit status of `systemctl`."""
        return int(self.run(f"systemctl --user {command}").split()[-1])

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.run(f"systemctl --user show {unit} {' '.join(f'-p {name}' for name in names)}").splitlines()
        return dict(line.split("=", 1) for line in lines[:-1])

    def _read_to(self, end: str) -> str:
        assert self._shell.stdout is not None
        text = ""
        for line in self._shell.stdout:
            if line.split()[-1:] == [end]:
                return text + line.rstrip("\n").removesuffix(end)
            text += line
        raise AssertionError(f"the shell has ended: {text}")

    def close(self) -> None:
        """End all of it."""
        self._shell.kill()
        self._shell.communicate(timeout=DEADLINE_S)
        command = ["unshare", "--mount", "sh", "-euc", _CGROUP_GOES]
        subprocess.run(command, env=self._environ, capture_output=True, timeout=DEADLINE_S, check=True)
