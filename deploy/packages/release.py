"""`python deploy/packages/release.py DIST`: is what `make packages` has put there fit to be released?

Looks at the metadata as the package index will, installs the wheel where nothing else of the project is and asks every
command for its version, and looks for known vulnerabilities. Adds to DIST what is inside (CycloneDX) and SHA256SUMS.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from download import PROJECT

_BIN = Path(sys.executable).parent
_WHEELS = PROJECT.parent / "build/wheels"


def release(dist: Path) -> None:
    """Raise `SystemExit` or `CalledProcessError`, with what is wrong said, where `dist` is not fit."""
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    _run(_BIN / "twine", "check", "--strict", wheel, source)
    requirements = _WHEELS / f"python{sys.version_info.major}.{sys.version_info.minor}.txt"
    with tempfile.TemporaryDirectory() as scratch:
        python = _installed(wheel, requirements, Path(scratch))
        _list_components(python, dist / f"{wheel.name.partition('-py')[0]}.cdx.json")
    _audit(requirements)
    _sum_up(dist)


def _installed(wheel: Path, requirements: Path, folder: Path) -> Path:
    """The Python of a new virtual environment, in which every command has told the version of `wheel`."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet", "--no-index")
    _run(*pip, "--find-links", _WHEELS, "--require-hashes", "--requirement", requirements)
    _run(*pip, "--no-deps", wheel)
    project = tomllib.loads(PROJECT.read_text())["project"]
    for command in project["scripts"]:
        said = subprocess.run(
            [folder / "bin" / command, "--version"], cwd="/", capture_output=True, text=True, check=True
        )
        if said.stdout != f"{command} {project['version']}\n":
            raise SystemExit(f"{command} --version says {said.stdout!r}, not {project['version']}")
    _run(folder / "bin/python", "-I", "-c", "import hsm_shipper.migrations, lustre_hsm_action_stream.aio")
    return folder / "bin/python"


def _list_components(python: Path, bom: Path) -> None:
    listing = (_BIN / "cyclonedx-py", "environment", "--pyproject", PROJECT, "--output-reproducible")
    _run(*listing, "--output-file", bom, python)


def _audit(requirements: Path) -> None:
    """Fail for a known vulnerability, and say of how many packages nothing was learnt: pip-audit ends with 0 then."""
    audit = (_BIN / "pip-audit", "--requirement", requirements, "--disable-pip", "--require-hashes", "--format", "json")
    done = subprocess.run(audit, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        _say(f"not audited, the database of vulnerabilities was not reached: {done.stderr.strip().splitlines()[-1:]}")
        return
    skipped = [one["name"] for one in found if "skip_reason" in one]
    if skipped:
        _say(
            f"not audited, the database of vulnerabilities does not answer for {len(skipped)} of {len(found)} packages"
        )
    vulnerable = {f"{one['name']} {one['version']}": one["vulns"] for one in found if one.get("vulns")}
    if vulnerable:
        raise SystemExit(f"known vulnerabilities: {json.dumps(vulnerable, indent=2)}")
    if not skipped:
        _say(f"audited: nothing is known of {len(found)} packages")


def _sum_up(dist: Path) -> None:
    sums = dist / "SHA256SUMS"
    sums.unlink(missing_ok=True)
    files = sorted(path for path in dist.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(dist)}\n" for path in files]
    sums.write_text("".join(lines))
    _say(f"{len(files)} files in {dist}, and SHA256SUMS")


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def _say(text: str) -> None:
    sys.stdout.write(f"release: {text}\n")


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    release(Path(sys.argv[1]))
