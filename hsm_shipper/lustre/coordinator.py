"""The HSM coordinator's files beside an actions file: where they are, and reading them.

| what                                | 2.13 and later                            | before                           |
|-------------------------------------|-------------------------------------------|----------------------------------|
| `actions`                           | `/sys/kernel/debug/lustre/mdt/<MDT>/hsm/` | `/proc/fs/lustre/mdt/<MDT>/hsm/` |
| `agents`                            | beside `actions`                          | beside `actions`                 |
| `grace_delay`, `max_requests` and … | `/sys/fs/lustre/mdt/<MDT>/hsm/`           | `/proc/fs/lustre/mdt/<MDT>/hsm/` |
| `hsm_control`                       | `/sys/fs/lustre/mdt/<MDT>/`               | `/proc/fs/lustre/mdt/<MDT>/`     |

An actions file below another root (a container's bind mount, the simulator's tree) has them below the same root.
All of them are advice to us, so one that cannot be read is None, never an error.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from hsm_shipper.contract.agents import Copytool, parse_agents
from hsm_shipper.contract.slots import Slots
from hsm_shipper.lustre.kernel_file import open_raw

# A line of `agents` is a hundred bytes, and a copytool is a daemon on a server of its own.
_READ_MAX_BYTES = 1024 * 1024
_DIGITS_MAX = 18  # of an integer of 64 bits; the tunables have 32
_LOOKS = 5
_LOOK_INTERVAL_S = 0.5

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
    return int(word) if word is not None and word.isdecimal() and len(word) <= _DIGITS_MAX else None


def read_slots(actions: Path) -> Slots:
    """One look at the coordinator's slots."""
    copytools, not_understood = _read_agents(actions.with_name("agents"))
    return Slots(
        max_requests=read_tunable(actions, "max_requests"),
        archive_count=read_tunable(actions, "archive_count"),
        restore_count=read_tunable(actions, "restore_count"),
        remove_count=read_tunable(actions, "remove_count"),
        copytools=copytools,
        agents_not_understood=not_understood,
    )


def lost_slots(mdts: Mapping[str, Path]) -> dict[str, Slots]:
    """The slots of those MDTs, of the actions files given, some of which are lost at every one of several looks.

    For a command that cannot wait as long as a worker does: two seconds where there is something to suspect.
    """
    lost = {mdt: slots for mdt, actions in mdts.items() if (slots := read_slots(actions)).lost}
    for _ in range(_LOOKS - 1):
        if not lost:
            break
        time.sleep(_LOOK_INTERVAL_S)
        lost = {mdt: slots for mdt in lost if (slots := read_slots(mdts[mdt])).lost}
    return lost


def _read_agents(path: Path) -> tuple[list[Copytool] | None, int]:
    content = _read(path)
    return (None, 0) if content is None else parse_agents(content)


def _read_word(path: Path) -> str | None:
    words = (_read(path) or b"").decode("ascii", "replace").split()
    return words[0] if words else None


def _read(path: Path) -> bytes | None:
    content = b""
    try:
        with closing(open_raw(path)) as file:
            while len(content) < _READ_MAX_BYTES and (chunk := file.read(_READ_MAX_BYTES - len(content))):
                content += chunk
    except OSError:
        return None
    return content
