"""Where a Lustre file system is mounted on this machine, by what `/proc/mounts` says. Pure but for `read_mounts`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hsm_shipper.errors import ConfigError

_PROC_MOUNTS = Path("/proc/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")
# What a client mounts: NIDs of the management servers, then `:/fsname`, perhaps a directory in it.
_CLIENT_DEVICE = re.compile(r".*:/(?P<fsname>[^/]+)(?P<fileset>/.*)?")
_NAMED = re.compile(r"(?P<fsname>[A-Za-z0-9_.-]+)=(?P<folder>/.*)")


class Mount(NamedTuple):
    """One Lustre client mount: the file system's name, and the mount point."""

    fsname: str
    folder: str
    is_whole: bool
    """Whether it shows the file system from its root, not a directory in it."""


def fsname_of(mdt: str) -> str:
    """The file system that the MDT is part of: `elm` for `elm-MDT0000`."""
    return mdt.rpartition("-MDT")[0]


def parse_mounts(text: str) -> list[Mount]:
    """The Lustre client mounts in the text of `/proc/mounts`; servers' targets, which have the same type, are none."""
    found = []
    for line in text.splitlines():
        device, folder, kind = (*line.split(" "), "", "", "")[:3]
        client = _CLIENT_DEVICE.fullmatch(device)
        if kind == "lustre" and client is not None:
            found.append(Mount(client["fsname"], _unescape(folder), client["fileset"] is None))
    return found


def read_mounts() -> list[Mount]:
    """The Lustre client mounts of this machine; none where `/proc` does not tell."""
    try:
        return parse_mounts(_PROC_MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return []


def mount_of(fsname: str, mounts: list[Mount]) -> str | None:
    """A mount point of the file system, one of its root if there is one; None if it is not mounted."""
    of_fs = [mount for mount in mounts if mount.fsname == fsname]
    return next((mount.folder for mount in sorted(of_fs, key=lambda mount: not mount.is_whole)), None)


def named_mounts(values: list[str], mounts: list[Mount]) -> dict[str, str]:
    """{file system: mount point} of the values of `--mount`, each `FSNAME=DIR`, or a `DIR` on the file system.

    `ConfigError` for a folder that is not absolute, or that lies on no Lustre file system where no FSNAME is given.
    """
    found = {}
    for value in values:
        named = _NAMED.fullmatch(value)
        if named is not None:
            found[named["fsname"]] = named["folder"].rstrip("/") or "/"
            continue
        mount = _mount_around(value, mounts)
        if mount is None:
            hint = "give the mount point of a Lustre client, or FSNAME=DIR"
            raise ConfigError(f"--mount {value!r}: no Lustre file system is mounted there", hint)
        found[mount.fsname] = mount.folder
    return found


def mounts_to_ask(values: list[str], configured: str | None, say: Callable[[str], None]) -> dict[str, str]:
    """`named_mounts` of the values of `--mount`, or without any of the configuration's `mountpoint`.

    That may be of no use, for it may be older than today's mounts; `say` is told so. `ConfigError` as `named_mounts`.
    """
    if values or configured is None:
        return named_mounts(values, read_mounts()) if values else {}
    try:
        return named_mounts([configured], read_mounts())
    except ConfigError as error:
        say(f"warning: mountpoint in the configuration is not used: {error.message}")
        return {}


def _mount_around(folder: str, mounts: list[Mount]) -> Mount | None:
    """The mount that `folder` lies on: the innermost, which hides the others."""
    at = PurePosixPath(folder)
    around = [mount for mount in mounts if at.is_relative_to(mount.folder)]
    return max(around, key=lambda mount: len(mount.folder), default=None)


def _unescape(folder: str) -> str:
    """The kernel writes blanks, newlines and backslashes in octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), folder)
