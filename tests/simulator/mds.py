"""The part of a metadata server's /sys that a monitor of HSM actions reads, as plain files below a folder."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_WRITE_BUFFER_BYTES: Final = 1 << 20


class SimulatedMds:
    """A server: the folders of the MDTs that are mounted on it.

    What a plain file cannot do: the real `actions` has no size and a fixed mtime, and answers ENOENT or EIO while its
    MDT comes or goes. Here the file is absent at such a time, which a reader meets as ENOENT at open.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._debugfs = root / "sys/kernel/debug/lustre/mdt"
        self._sysfs = root / "sys/fs/lustre/mdt"
        # Both are there without any MDT, once the kernel modules are loaded.
        self._debugfs.mkdir(parents=True, exist_ok=True)
        self._sysfs.mkdir(parents=True, exist_ok=True)

    @property
    def watch_glob(self) -> str:
        """What a shipper on this server watches."""
        return f"{glob.escape(str(self._debugfs))}/*-MDT????/hsm/actions"

    def actions_path(self, mdt: str) -> Path:
        """The listing of an MDT."""
        return self._debugfs / mdt / "hsm/actions"

    def agents_path(self, mdt: str) -> Path:
        """The copytools registered with an MDT, a line each."""
        return self._debugfs / mdt / "hsm/agents"

    def hsm_control_path(self, mdt: str) -> Path:
        """The state of an MDT's coordinator."""
        return self._sysfs / mdt / "hsm_control"

    def tunables_path(self, mdt: str) -> Path:
        """The folder of `grace_delay` and its neighbours."""
        return self._sysfs / mdt / "hsm"

    def add_folders(self, mdt: str) -> None:
        """The folders of an MDT that begins to mount. Those that a killed simulator left behind are taken over."""
        self.actions_path(mdt).parent.mkdir(parents=True, exist_ok=True)
        self.tunables_path(mdt).mkdir(parents=True, exist_ok=True)

    def remove_folders(self, mdt: str) -> None:
        """Everything of an MDT goes, the listing first, as the llog goes before its folder does."""
        self.actions_path(mdt).unlink(missing_ok=True)
        shutil.rmtree(self._debugfs / mdt)
        shutil.rmtree(self._sysfs / mdt)

    def write_actions(self, mdt: str, lines: Iterable[bytes]) -> None:
        """Show a new listing."""
        _replace(self.actions_path(mdt), lines)

    def write_agents(self, mdt: str, lines: Iterable[bytes]) -> None:
        """Show the copytools."""
        _replace(self.agents_path(mdt), lines)

    def write_hsm_control(self, mdt: str, state: str) -> None:
        """Show the coordinator's state."""
        _replace(self.hsm_control_path(mdt), [f"{state}\n".encode("ascii")])

    def write_tunables(self, mdt: str, values: Mapping[str, int]) -> None:
        """Show the small numbers, a file each."""
        for name, value in values.items():
            _replace(self.tunables_path(mdt) / name, [b"%d\n" % value])


def _replace(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file whole under a name that no glob for `actions` matches, then rename it.

    Whoever has the old file open keeps reading the old content: the kernel's listing is a snapshot, too.
    """
    new = path.with_name(f".{path.name}.new")
    with new.open("wb", buffering=_WRITE_BUFFER_BYTES) as file:
        file.writelines(chunks)
    new.replace(path)
