"""The deb packages in a clean Debian 12: what their scriptlets do when all is well, and when it is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packages.conftest import ROOT, Release, deb
from tests.support.clean_root import CleanRoot

CONFIG = "etc/hsm-shipper/hsm-shipper.yaml"
HOME = "opt/hsm-shipper"
_NOBODY = 65534


def install(root: CleanRoot, *files: Path, status: int | None = 0) -> str:
    """Install packages with dpkg."""
    return root.run("dpkg", "--install", *root.bring(*files), status=status)


def version_of(root: CleanRoot, command: str = "hsm-action-shipper") -> str:
    """What the command says that it is."""
    return root.run(command, "--version").split()[-1]


def venvs(root: CleanRoot) -> set[str]:
    """The virtual environments that are there."""
    return {path.name for path in (root / HOME / "venvs").iterdir() if path.is_dir()}


def test_apt_installs_it_with_nothing_but_python(root: CleanRoot, packages: Path) -> None:
    (root / "usr/local/bin/hsm-action-shipper").symlink_to("/opt/of-pip/bin/hsm-action-shipper")
    (root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    (root / "etc/systemd/system/hsm-action-shipper.service").touch()
    (root / "etc/systemd/system/hsm-stream-stats.service").symlink_to("/dev/null")  # masked
    (file,) = root.bring(deb(packages))
    said = root.run("sh", "-c", f"umask 077; apt-get install --yes {file}")
    assert "/usr/local/bin/hsm-action-shipper is not of this package" in said
    assert re.findall(r"(/etc/systemd/system/\S+) is not of this package, and hides its unit", said) == [
        "/etc/systemd/system/hsm-action-shipper.service"
    ]
    unit = (root / "usr/lib/systemd/system/hsm-action-shipper.service").read_text()
    assert "\nExecStart=/usr/bin/hsm-action-shipper\n" in unit
    assert "say where Redis is in /etc/hsm-shipper/hsm-shipper.yaml" in said
    assert (root / CONFIG).read_bytes() == (ROOT / "deploy/hsm-shipper.yaml").read_bytes()
    for command in ("hsm-action-shipper", "hsm-action-top", "hsm-stream-tail", "hsm-stream-stats"):
        # For every user, whatever root's umask was.
        shown = subprocess.run(
            root.words("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", command, "--version"),
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.startswith(f"{command} ")
        assert (root / f"usr/share/man/man1/{command}.1.gz").exists()
    # What README names is where README is.
    readme = root / "usr/share/doc/hsm-action-shipper/README.md"
    for target in re.findall(r"\]\(((?:docs|deploy)/[^)#]+)", readme.read_text()):
        root.run("test", "-e", f"/usr/share/doc/hsm-action-shipper/{target}")


def test_an_upgrade_restarts_what_runs_and_keeps_what_was_edited(
    root: CleanRoot, earlier: Path, packages: Path, later: Path
) -> None:
    root.pretend_systemd()
    install(root, deb(earlier))
    assert root.asked() == ["daemon-reload"]  # nothing is started that nobody has configured
    edited = (root / CONFIG).read_text().replace("redis_host: localhost", "redis_host: redis.example.org")
    (root / CONFIG).write_text(edited)
    first = venvs(root)
    install(root, deb(packages))
    assert root.asked() == [
        "daemon-reload",
        "try-restart hsm-action-shipper.service",
        "try-restart hsm-stream-stats.service",
    ]
    assert (root / CONFIG).read_text() == edited
    assert first < venvs(root)  # for whoever still runs in it
    install(root, deb(later))
    assert version_of(root) == "99.0.0"
    assert len(venvs(root)) == 2 and not first & venvs(root)


def test_one_that_fails_leaves_what_was_there(
    root: CleanRoot, packages: Path, release: Release, tmp_path: Path
) -> None:
    wheels = shutil.copytree(ROOT / "build/wheels", tmp_path / "wheels")
    (redis,) = wheels.glob("redis-*.whl")
    redis.write_bytes(redis.read_bytes()[:-1])
    broken = deb(release("98.0.0", wheels=wheels))
    install(root, deb(packages))
    version, there = version_of(root), venvs(root)
    root.pretend_systemd()
    said = install(root, broken, status=1)
    assert "redis" in said and "could not be made. What was installed before is untouched." in said
    assert (version_of(root), venvs(root)) == (version, there)
    assert root.asked() == []  # what runs goes on
    # Mended: dpkg goes on where it stopped.
    shutil.copy(ROOT / "build/wheels" / redis.name, root / HOME / "wheels")
    root.run("dpkg", "--configure", "--pending")
    assert version_of(root) == "98.0.0"
    assert "try-restart hsm-action-shipper.service" in root.asked()


def test_without_a_python_that_fits(root: CleanRoot, packages: Path) -> None:
    (root / "usr/bin/python3.11").rename(root / "usr/bin/python3.11.away")
    said = install(root, deb(packages), status=1)
    assert "no Python 3.11, 3.12 or 3.13 in" in said and "install one" in said
    hint = root.run("hsm-stream-tail", "--help", status=1)
    assert hint.startswith("hsm-stream-tail: ") and "run /opt/hsm-shipper/bin/make-venv as root" in hint
    (root / "usr/bin/python3.11.away").rename(root / "usr/bin/python3.11")
    root.run("/opt/hsm-shipper/bin/make-venv")
    version_of(root, "hsm-stream-tail")
    root.run("dpkg", "--configure", "--pending")


def test_the_environment_of_whoever_installs_it_changes_nothing(root: CleanRoot, packages: Path) -> None:
    (root / "etc/pip.conf").write_text("[global]\nno-binary = :all:\nindex-url = http://127.0.0.1:9/\n")
    (root / "opt/else").mkdir()
    (root / "opt/else/hsm_shipper.py").write_text("raise SystemExit('not ours')\n")
    (file,) = root.bring(deb(packages))
    foreign = {
        "HOME": "/nowhere",
        "PYTHONPATH": "/opt/else",
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_TARGET": "/opt/else",
    }
    root.run("dpkg", "--install", file, environment=foreign)
    root.run("hsm-action-top", "--version", environment=foreign)


def test_a_person_who_installs_both_has_all_of_it(root: CleanRoot, earlier: Path, packages: Path) -> None:
    root.pretend_systemd()
    install(root, deb(earlier, "hsm-action-tools"))
    assert not (root / "usr/bin/hsm-action-shipper").exists()
    edited = (root / CONFIG).read_text().replace("redis_host: localhost", "redis_host: redis.example.org")
    (root / CONFIG).write_text(edited)
    root.asked()
    # The shipper's package takes the place of the tools'.
    install(root, deb(packages))
    assert not [line for line in root.asked() if line.startswith(("disable", "stop"))]
    assert (root / CONFIG).read_text() == edited
    version = version_of(root)
    # The other way round nothing happens.
    said = install(root, deb(packages, "hsm-action-tools"), status=1)
    assert "conflict" in said
    root.run("dpkg", "--purge", "hsm-action-tools")
    assert (root / CONFIG).read_text() == edited
    assert version_of(root) == version_of(root, "hsm-action-top") == version
    # Unless apt is told that it may remove what is in the way. Then it is said.
    (root / "var/lib/hsm-shipper/elm-MDT0000.sqlite3").write_text("state")
    (file,) = root.bring(deb(packages, "hsm-action-tools"))
    assert "the shipper was removed from this server" in root.run("apt-get", "install", "--yes", file)
    assert (root / CONFIG).read_text() == edited
    assert version_of(root, "hsm-action-top") == version


def test_removal_leaves_state_and_configuration(root: CleanRoot, packages: Path) -> None:
    root.pretend_systemd()
    install(root, deb(packages))
    (root / "var/lib/hsm-shipper/elm-MDT0000.sqlite3").write_text("state")
    (root / CONFIG).write_text("redis_host: redis.example.org\n")
    root.asked()
    said = root.run("dpkg", "--remove", "hsm-action-shipper")
    assert "/var/lib/hsm-shipper is left as it is" in said
    assert root.asked() == [
        "disable --now hsm-action-shipper.service",
        "disable --now hsm-stream-stats.service",
        "disable --now hsm-stream-reconciler.timer",
        "daemon-reload",
    ]
    assert (root / CONFIG).exists()
    left = {path.name for path in (root / "usr/bin").glob("hsm-*")}
    assert not (root / HOME).exists() and not left
    root.run("dpkg", "--purge", "hsm-action-shipper")
    assert not (root / CONFIG).exists()
    assert (root / "var/lib/hsm-shipper/elm-MDT0000.sqlite3").read_text() == "state"


@pytest.mark.parametrize("minor", [12, 13])
def test_it_moves_to_another_python_when_its_own_goes(root: CleanRoot, packages: Path, minor: int) -> None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    others = sorted(pyenv.glob(f"3.{minor}.*"))
    if not others:
        pytest.skip(f"no Python 3.{minor} is here that could be lent to the root")
    root.pretend_systemd()
    install(root, deb(packages))
    root.asked()
    lent = root / str(others[0].relative_to("/"))
    lent.mkdir(parents=True)
    subprocess.run(["mount", "--bind", others[0], lent], check=True)
    (root / f"usr/bin/python3.{minor}").symlink_to(others[0] / f"bin/python3.{minor}")
    (root / "usr/bin/python3.11").unlink()
    # What dpkg does when it has unpacked another /usr/bin/python3.
    root.run("dpkg-trigger", "--by-package=python3-minimal", "/usr/bin/python3")
    root.run("dpkg", "--triggers-only", "--pending")
    assert f"-python3.{minor}-" in str((root / HOME / "current").readlink())
    version_of(root, "hsm-action-top")
    assert "try-restart hsm-action-shipper.service" in root.asked()
