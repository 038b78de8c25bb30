"""`python deploy/packages/download.py DIR`: what the packages need, for each Python that they promise.

DIR gets the wheels, that of pip to install them with among them, and for each Python a `python3.X.txt`: exact versions
with their digests, as `pip install --require-hashes` takes them. They run on glibc 2.28 (EL 8) and later, on x86-64.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

PYTHONS = ("3.11", "3.12", "3.13")
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_OLDEST_GLIBC = (2, 28)
_PLATFORMS = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(_OLDEST_GLIBC[1], 4, -1)]


def download(folder: Path) -> None:
    """Fill `folder`. Raises `CalledProcessError` where pip fails, having said why."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    requirements = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    requirements.append("pip")
    for python in PYTHONS:
        with tempfile.TemporaryDirectory() as scratch:
            wheels = _closure(python, requirements, Path(scratch))
            (folder / f"python{python}.txt").write_text("".join(f"{pinned(wheel)}\n" for wheel in wheels))
            for wheel in wheels:
                shutil.copy(wheel, folder)


def pinned(wheel: Path) -> str:
    """The line of a requirements file that this very wheel fulfils, and no other."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def _closure(python: str, requirements: list[str], folder: Path) -> list[Path]:
    """The wheels of `requirements` and of all that they require on any release of `python`, in `folder`."""
    target = [f"--python-version={python}", "--implementation=cp", *_PLATFORMS]
    wanted = list(requirements)
    while True:
        _pip(*target, "--dest", str(folder), *wanted)
        wheels = sorted(folder.glob("*.whl"))
        lacking = sorted(_lacking(python, wheels))
        if not lacking:
            return wheels
        wanted += lacking


def _lacking(python: str, wheels: list[Path]) -> Iterator[str]:
    """What the wheels require on the first release of `python`, and pip left out because of the one that it runs on.

    Later releases require less: Debian 12 has 3.11.2, for which redis-py wants a package that 3.11.3 makes needless.
    """
    there = {parse_wheel_filename(wheel.name)[0] for wheel in wheels}
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for wheel in wheels:
        for text in _metadata(wheel).get_all("Requires-Dist", []):
            requirement = Requirement(text)
            needed = requirement.marker is None or requirement.marker.evaluate(environment)
            if needed and canonicalize_name(requirement.name) not in there:
                requirement.marker = None
                yield str(requirement)


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
    subprocess.run([*command, "--only-binary=:all:", *arguments], check=True)


if __name__ == "__main__":
    download(Path(sys.argv[1]))
