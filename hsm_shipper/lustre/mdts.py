"""The MDTs that this server serves now: the folders that the configured pattern finds.

Not `glob.glob`: it takes a folder that it may not read for an empty one, and here that would stop a worker and throw
its state away. Nothing is opened: opening an actions file costs the coordinator a scan.
"""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path, PurePath
from typing import NamedTuple

from hsm_shipper.contract.redis_keys import is_mdt_name

_MAGIC = re.compile(r"[*?\[]")


class Present(NamedTuple):
    """What one look found.

    `mdts` are actions files by MDT name. `unreadable` tells what could not be looked into: an MDT behind it may well
    be there, so nobody may conclude that one has left. `remarks` are names that were passed over, and why.
    """

    mdts: dict[str, Path]
    unreadable: tuple[str, ...]
    remarks: tuple[str, ...]


def find_mdts(pattern: str) -> Present:
    """The MDTs that `pattern` finds: `mdt_watch_glob`, absolute, ending in `/<MDT>/hsm/actions`. Never raises."""
    unreadable: list[str] = []
    remarks: list[str] = []
    mdts: dict[str, Path] = {}
    for actions in _matching_paths(PurePath(pattern), unreadable):
        name = actions.parents[1].name
        if not is_usable(actions):
            remarks.append(f"{str(actions)!r} is passed over: blanks and control characters cannot be used")
        elif not is_mdt_name(name):
            remarks.append(f"{str(actions)!r} is passed over: {name!r} is no MDT name (<fsname>-MDT<4 hex digits>)")
        elif name in mdts:
            remarks.append(f"{str(actions)!r} is passed over: {name} is already read from {str(mdts[name])!r}")
        else:
            mdts[name] = actions
    return Present(mdts, tuple(unreadable), tuple(remarks))


def is_usable(actions: Path) -> bool:
    """Whether the path can stand in supervisord's configuration, and in a log."""
    return str(actions).isprintable() and " " not in str(actions)


def _matching_paths(pattern: PurePath, unreadable: list[str]) -> list[Path]:
    """Every existing path that matches, in order of name."""
    paths = [Path(pattern.anchor)]
    for part in pattern.parts[1:]:
        if _MAGIC.search(part):
            paths = [folder / name for folder in paths for name in _names_in(folder, part, unreadable)]
        else:
            paths = [folder / part for folder in paths]
    return [path for path in paths if _exists(path, unreadable)]


def _names_in(folder: Path, part: str, unreadable: list[str]) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - no Path for each name that does not match
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        unreadable.append(f"cannot list {folder}: {error.strerror}")
        return []
    return sorted(name for name in fnmatch.filter(names, part) if not name.startswith("."))


def _exists(path: Path, unreadable: list[str]) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        unreadable.append(f"cannot look at {path}: {error.strerror}")
        return False
    return True
