"""Paths of the files of actions, asked for at need and shown as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hsm_tools.command.event_text import file_name

if TYPE_CHECKING:
    from hsm_tools.fid_paths.paths import Paths


class Files:
    """What is known of files; `mounts` is None where nothing is to be asked."""

    def __init__(self, mounts: dict[str, str] | None, say: Callable[[str], None]) -> None:
        self._mounts = mounts
        self._say = say
        self._paths: Paths | None = None
        self._changed = False

    def take_changed(self) -> bool:
        """Whether there are new answers since this was asked last."""
        changed, self._changed = self._changed, False
        return changed

    def ask(self, mdt: str, fid: str) -> None:
        """Have the path of a file asked for."""
        if self._mounts is None:
            return
        if self._paths is None:
            from hsm_tools.fid_paths.paths import Paths

            self._paths = Paths(self._mounts, self._say, self._wake)
        self._paths.ask(mdt, fid)

    def shown(self, mdt: str, fid: str) -> str:
        """A file by its path if that is known, else by its FID."""
        path = self._path(mdt, fid)
        return file_name(fid, path if isinstance(path, str) else None)

    def told(self, mdt: str, fid: str) -> str:
        """The path of a file, or why there is none."""
        from hsm_tools.fid_paths.paths import PENDING

        if self._mounts is None:
            return "(paths are not asked for: --no-paths)"
        path = self._path(mdt, fid)
        if path is PENDING:
            return "(asking Lustre for the path...)"
        return path if isinstance(path, str) else "(no path known)"

    def close(self) -> None:
        """Ask no more; children that still ask are ended."""
        if self._paths is not None:
            self._paths.close()

    def _path(self, mdt: str, fid: str) -> object:
        return None if self._paths is None else self._paths.answer(mdt, fid)

    def _wake(self) -> None:
        self._changed = True
