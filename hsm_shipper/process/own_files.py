"""Files and folders of this process's own: what somebody put at their path, a link, is not followed to write there."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def refuse_link(path: Path, *, hard: bool = True) -> None:
    """Raise `OSError` if `link_at` finds something at `path`."""
    why = link_at(path, hard=hard)
    if why is not None:
        raise OSError(errno.ELOOP, why)


def link_at(path: Path, *, hard: bool = True) -> str | None:
    """What is at `path`, if it is no regular file; with `hard`, none of that name alone. Raises `OSError`."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    why = _what_else(found)
    if why is None and hard and found.st_nlink > 1:
        return "it is a hard link: the file has another name"
    return why


def others_may_write(folder: Path) -> bool:
    """Whether another user than this one and root could have put something into `folder`. Raises `OSError`."""
    found = folder.stat()
    return bool(found.st_mode & _OTHERS_WRITE) or found.st_uid not in (0, os.geteuid())


def _what_else(found: os.stat_result) -> str | None:
    if stat.S_ISREG(found.st_mode):
        return None
    return "it is a symbolic link" if stat.S_ISLNK(found.st_mode) else "it is no regular file"


def open_for_append(path: str | Path) -> int:
    """Open a log, made for its user and group alone. Raises `OSError`.

    A link is followed where only this user, or root, could have put it, and what is no regular file is taken: that is
    how a site sends a log elsewhere. In a folder where others may write it is refused.
    """
    path = Path(path)
    if others_may_write(path.parent):
        refuse_link(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
