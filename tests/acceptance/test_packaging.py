"""What goes into wheel, source distribution and packages, as far as the tree tells; `packages/` installs them."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / ".ci/run", *(ROOT / "deploy/packages" / name for name in ("command", "make-venv"))]
SCRIPTS += sorted((ROOT / "deploy/packages").glob("*.sh"))
NOT_FOR_USERS = {"deploy/manual.py"}


@pytest.fixture
def project() -> Any:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def packing(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the programs that make packages, which can be imported meanwhile."""
    monkeypatch.syspath_prepend(ROOT / "deploy/packages")
    return ROOT / "deploy/packages"


def test_the_wheel_has_what_the_documents_call_deploy(project: Any) -> None:
    listed = set()
    for folder, patterns in project["tool"]["setuptools"]["data-files"].items():
        for pattern in patterns:
            assert folder == "share/hsm-shipper" + str(Path(pattern).parent).removeprefix("deploy")
            listed |= {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    users = {name for name in files if not name.startswith("deploy/packages/") and "__pycache__" not in name}
    assert users - NOT_FOR_USERS == listed


def test_the_source_distribution_has_the_whole_tree() -> None:
    done = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a checkout: nobody tells what the tree is")
    manifest = (ROOT / "MANIFEST.in").read_text().split()
    tops = {name.partition("/")[0] for name in done.stdout.splitlines()}
    taken_by_itself = {"LICENSE", "MANIFEST.in", "pyproject.toml"}
    assert {top for top in tops if top not in manifest and not top.endswith(".md")} == taken_by_itself


def test_packages_have_wheels_for_the_pythons_that_are_promised(project: Any, packing: Path) -> None:
    promised = [line.rpartition(" :: ")[2] for line in project["project"]["classifiers"] if " 3." in line]
    assert list(importlib.import_module("download").PYTHONS) == promised
    for place in ("nfpm.yaml", "make-venv"):
        named = re.findall(r"python(3\.\d+)\b", (packing / place).read_text())
        assert set(promised) <= set(named), place


@pytest.mark.parametrize(
    ("name", "version", "why"),
    [("msgspec", "0.20.0", "its errors are no ValueErrors: an entry that is no JSON ended a consumer")],
)
def test_releases_that_are_known_not_to_do_are_not_taken(project: Any, name: str, version: str, why: str) -> None:
    (found,) = (bound for bound in map(Requirement, project["project"]["dependencies"]) if bound.name == name)
    assert version not in found.specifier, why


def test_every_command_is_in_the_shippers_package_and_every_tool_in_the_tools(project: Any, packing: Path) -> None:
    commands = importlib.import_module("pack").COMMANDS
    scripts = set(project["project"]["scripts"])
    assert set(commands["hsm-action-shipper"]) == scripts
    assert set(commands["hsm-action-tools"]) == scripts - {"hsm-action-shipper"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck on this host")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("dependencies", "told"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], "audited: nothing is known of 1 packages"),
        ([{"name": "a", "skip_reason": "not found"}], "not audited"),
        (None, "not audited"),
    ],
)
@pytest.mark.usefixtures("packing")
def test_a_release_tells_whether_it_was_audited(
    dependencies: Any, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = importlib.import_module("release")
    answer = "" if dependencies is None else json.dumps({"dependencies": dependencies})
    done = subprocess.CompletedProcess("", 0, answer, "cannot reach it\n")
    monkeypatch.setattr(release.subprocess, "run", lambda *_, **__: done)
    release._audit(Path("python3.11.txt"))
    assert capsys.readouterr().out.startswith(f"release: {told}")


@pytest.mark.usefixtures("packing")
def test_a_release_with_a_known_vulnerability_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    release = importlib.import_module("release")
    found = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}
    done = subprocess.CompletedProcess("", 1, json.dumps({"dependencies": [found]}), "")
    monkeypatch.setattr(release.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(SystemExit, match="CVE-1"):
        release._audit(Path("python3.11.txt"))
