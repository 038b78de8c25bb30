"""Stand-ins for the Lustre client's tools, which tests put first in PATH or in the library path."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
MOUNT = "/lustre"


class World:
    """What the stand-ins know, in a folder, and what they were asked.

    `paths/FID` holds the paths of a file, each ended by a NUL. `hang`: never answer. `held`: not before it is unset.
    `delay_s`: seconds a call takes. `fail`: exit status and words to fail with; `errno`: what the library fails with.
    `lacks`: options that this release does not know.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "paths").mkdir(parents=True)
        (folder / "bin").mkdir()
        lfs = folder / "bin" / "lfs"
        lfs.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {FOLDER / "lfs.py"} "$@"\n')
        lfs.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to find the stand-in `lfs`, and no other."""
        return {"LFS_WORLD": str(self.folder), "PATH": str(self.folder / "bin")}

    @property
    def library_environment(self) -> dict[str, str]:
        """For a process that is to find the stand-in library too; needs a C compiler."""
        compiler = shutil.which("cc")
        assert compiler is not None
        library = self.folder / "lib" / "liblustreapi.so.1"
        library.parent.mkdir()
        source = str(FOLDER / "liblustreapi.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-o", str(library), source], check=True)
        return self.environment | {"LD_LIBRARY_PATH": str(library.parent)}

    def put(self, fid: str, *paths: str | bytes) -> None:
        """A file and its paths below the mount point."""
        names = [path.encode() if isinstance(path, str) else path for path in paths]
        (self.folder / "paths" / fid).write_bytes(b"".join(name + b"\0" for name in names))

    def set(self, name: str, text: str = "") -> None:
        """Make the stand-in behave so, from the next call on."""
        (self.folder / name).write_text(text)

    def unset(self, name: str) -> None:
        """Make it behave again."""
        (self.folder / name).unlink()

    @property
    def calls(self) -> list[str]:
        """The arguments of every call so far."""
        return self._lines("calls")

    @property
    def pids(self) -> list[int]:
        """The processes of every call so far."""
        return [int(pid) for pid in self._lines("pids")]

    def running(self) -> list[int]:
        """Those of them that still run."""
        return [pid for pid in self.pids if Path(f"/proc/{pid}").exists()]

    def _lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []
