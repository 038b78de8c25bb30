"""The HSM coordinator's files beside an actions file: where they are, and reading them.

| what                                | 2.13 and later                            | before                           |
|-------------------------------------|-------------------------------------------|----------------------------------|
| `actions`                           | `/sys/kernel/debug/lustre/mdt/<MDT>/hsm/` | `/proc/fs/lustre/mdt/<MDT>/hsm/` |
| `grace_delay`, `max_requests` and … | `/sys/fs/lustre/mdt/<MDT>/hsm/`           | `/proc/fs/lustre/mdt/<MDT>/hsm/` |
| `hsm_control`                       | `/sys/fs/lustre/mdt/<MDT>/`               | `/proc/fs/lustre/mdt/<MDT>/`     |

An actions file below another root (a container's bind mount, the simulator's tree) has them below the same root.
All of them are advice to us, so one that cannot be read is None, never an error.
"""

from __future__ import annotations

from pathlib import Path

_DEBUGFS_MDT = ("sys", "kernel", "debug", "lustre", "mdt")
_SYSFS_MDT = Path("sys/fs/lustre/mdt")


def mdt_folder(actions: Path) -> Path:
    """The MDT's folder that holds `hsm_control` and `hsm/grace_delay`, for the actions file `actions`."""
    beside = actions.parents[1]
    if beside.parts[-6:-1] != _DEBUGFS_MDT:
        return beside
    return beside.parents[len(_DEBUGFS_MDT)] / _SYSFS_MDT / beside.name


def read_hsm_control(actions: Path) -> str | None:
    """The coordinator's state: `init`, `enabled`, `stopping`, `stopped` or `disabled`; None if it cannot be read."""
    return _read_word(mdt_folder(actions) / "hsm_control")


def read_tunable(actions: Path, name: str) -> int | None:
    """A whole number from the `hsm` folder, such as `grace_delay` in seconds; None if it cannot be read."""
    word = _read_word(mdt_folder(actions) / "hsm" / name)
    return int(word) if word is not None and word.isdecimal() else None


def _read_word(path: Path) -> str | None:
    try:
        words = path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return None
    return words[0] if words else None
