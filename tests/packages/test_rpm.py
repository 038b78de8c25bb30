"""The rpm packages, in a root of their own with their scriptlets run; and what can be told of EL without one.

The root is a Debian: no EL can be had where these tests run. So dependencies are not resolved (`--nodeps`), but read.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.packages.conftest import PYTHON, ROOT, rpm
from tests.support.clean_root import CleanRoot

CONFIG = "etc/hsm-shipper/hsm-shipper.yaml"
HOME = "opt/hsm-shipper"
PACKAGES = ["hsm-action-shipper", "hsm-action-tools"]


def run_rpm(root: CleanRoot, *arguments: str | Path, status: int = 0) -> str:
    """Run rpm of the host on the root, which its scriptlets see as theirs."""
    command = ["rpm", "--root", root.path, "--force-debian", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == status, done.stdout
    return done.stdout


def test_rpmlint_has_nothing_to_say(packages: Path) -> None:
    files = [str(rpm(packages, package)) for package in PACKAGES]
    command = ["rpmlint", "--config", str(ROOT / "deploy/packages/rpmlint.toml"), "--ignore-unused-rpmlintrc", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert " 0 errors, 0 warnings" in done.stdout, done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_it_needs_one_of_the_pythons_that_it_has_wheels_for(packages: Path, package: str) -> None:
    query = ["rpm", "--query", "--requires", "--package", str(rpm(packages, package))]
    done = subprocess.run(query, capture_output=True, text=True, check=True)
    others = [line for line in done.stdout.splitlines() if not line.startswith(("rpmlib(", "/bin/sh"))]
    assert others == ["(python3.13 or python3.12 or python3.11 or (python3 >= 3.11 with python3 < 3.14))"]
    lists = {path.stem.removeprefix("python") for path in (ROOT / "build/wheels").glob("python*.txt")}
    assert lists == {"3.11", "3.12", "3.13"}


def test_the_same_wheels_give_the_same_packages(tmp_path: Path) -> None:
    (wheel,) = (ROOT / "dist").glob("*.whl")
    made = []
    for number in ("1", "2"):
        command = (PYTHON, ROOT / "deploy/packages/pack.py", wheel, "--out", tmp_path / number)
        subprocess.run(command, check=True, capture_output=True)
        made.append({path.name: path.read_bytes() for path in (tmp_path / number).iterdir()})
    assert len(made[0]) == 4
    assert made[0] == made[1]


def test_its_binaries_run_on_the_oldest_glibc_promised() -> None:
    binaries = [wheel.stem for wheel in (ROOT / "build/wheels").glob("*.whl") if not wheel.stem.endswith("-any")]
    assert len(binaries) > 3
    for name in binaries:
        oldest = min(int(minor) for minor in re.findall(r"manylinux_2_(\d+)_x86_64", name))
        assert oldest <= 28, name


def test_install_upgrade_and_removal(root: CleanRoot, earlier: Path, packages: Path) -> None:
    root.pretend_systemd()
    said = run_rpm(root, "--install", "--nodeps", rpm(earlier))
    assert "say where Redis is in /etc/hsm-shipper/hsm-shipper.yaml" in said
    assert root.run("hsm-action-shipper", "--version") == "hsm-action-shipper 0.0.1\n"
    assert root.asked() == ["daemon-reload"]
    edited = (root / CONFIG).read_text().replace("redis_host: localhost", "redis_host: redis.example.org")
    (root / CONFIG).write_text(edited)
    (root / "var/lib/hsm-shipper/elm-MDT0000.sqlite3").write_text("state")
    # The wheels of both lie there while the scriptlet of the new one runs, and only its own are for it.
    run_rpm(root, "--upgrade", "--nodeps", rpm(packages))
    assert root.run("hsm-action-top", "--version") != "hsm-action-top 0.0.1\n"
    assert root.asked() == [
        "daemon-reload",
        "try-restart hsm-action-shipper.service",
        "try-restart hsm-stream-stats.service",
    ]
    assert (root / CONFIG).read_text() == edited
    assert len([path for path in (root / HOME / "venvs").iterdir() if path.is_dir()]) == 2
    said = run_rpm(root, "--erase", "hsm-action-shipper")
    assert "/var/lib/hsm-shipper is left as it is" in said
    assert root.asked()[0] == "disable --now hsm-action-shipper.service"
    assert (root / "var/lib/hsm-shipper/elm-MDT0000.sqlite3").read_text() == "state"
    assert (root / f"{CONFIG}.rpmsave").read_text() == edited
    assert not (root / HOME).exists()
    assert not list((root / "usr/bin").glob("hsm-*"))


def test_a_downgrade_takes_its_own_wheels(root: CleanRoot, packages: Path, later: Path) -> None:
    run_rpm(root, "--install", "--nodeps", rpm(later))
    run_rpm(root, "--upgrade", "--oldpackage", "--nodeps", rpm(packages))
    assert root.run("hsm-action-shipper", "--version") != "hsm-action-shipper 99.0.0\n"


def test_both_are_refused_and_one_takes_the_place_of_the_other(root: CleanRoot, packages: Path) -> None:
    root.pretend_systemd()
    run_rpm(root, "--install", "--nodeps", rpm(packages, "hsm-action-tools"))
    refused = run_rpm(root, "--install", rpm(packages), status=1)
    assert "hsm-action-tools conflicts with" in refused or "conflicts with hsm-action-tools" in refused
    # What `dnf swap` does: one transaction in which the new one comes first.
    run_rpm(root, "--install", "--nodeps", rpm(packages))
    root.asked()
    run_rpm(root, "--erase", "hsm-action-tools")
    assert not [line for line in root.asked() if line.startswith("disable")]
    for command in ("hsm-action-shipper", "hsm-action-top"):
        root.run(command, "--version")


def test_one_that_fails_leaves_what_was_there(root: CleanRoot, earlier: Path, packages: Path) -> None:
    run_rpm(root, "--install", "--nodeps", rpm(earlier))
    root.pretend_systemd()
    (root / "usr/bin/flock").write_text("#!/bin/sh\nexit 1\n")  # the new one cannot be made, whatever the reason
    said = run_rpm(root, "--upgrade", "--nodeps", rpm(packages))
    assert "%post" in said
    assert root.run("hsm-action-shipper", "--version") == "hsm-action-shipper 0.0.1\n"
    assert root.asked() == []
