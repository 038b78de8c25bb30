"""What the tests of packages share: packages of this tree and of other releases, and clean roots to install them in.

`make packages-test` makes what they need and runs them where there is no network. They must be root.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clean_root import CleanRoot

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
_ARCHIVE = ROOT / "build/bookworm.tar"

Release = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are behind `make packages-test`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.packages)


@pytest.fixture(scope="session", autouse=True)
def offline() -> None:
    """Holds that nothing can come from the network."""
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    assert not routes, "these tests must have no network: run them by `make packages-test`"


@pytest.fixture(scope="session")
def packages() -> Path:
    """The packages of this tree, as `make packages` has made them."""
    return ROOT / "dist/packages"


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """Packs the source distribution as another release: `release("99.0.0", edit)` gives the folder of its packages.

    `edit` may change the unpacked tree before.
    """

    def pack(version: str, edit: Callable[[Path], None] = lambda _: None, wheels: Path = ROOT / "build/wheels") -> Path:
        folder = tmp_path_factory.mktemp(f"release-{version}")
        (source,) = (ROOT / "dist").glob("*.tar.gz")
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        (tree,) = folder.iterdir()
        project = tree / "pyproject.toml"
        project.write_text(
            re.sub(r'^version = ".*"', f'version = "{version}"', project.read_text(), flags=re.MULTILINE)
        )
        edit(tree)
        build = (PYTHON, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, tree)
        subprocess.run(build, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        made = (PYTHON, tree / "deploy/packages/pack.py", wheel, "--wheels", wheels, "--manuals", ROOT / "build")
        subprocess.run([*made, "--out", folder / "packages"], check=True, capture_output=True)
        return folder / "packages"

    return pack


@pytest.fixture(scope="session")
def earlier(release: Release) -> Path:
    """The packages of a release before this one."""
    return release("0.0.1")


@pytest.fixture(scope="session")
def later(release: Release) -> Path:
    """The packages of a release after this one, which has one more migration of the state files."""

    def add_migration(tree: Path) -> None:
        steps = tree / "migrations/__init__.py"
        added = r'\1    "9999_later": lambda db: None,\n}'
        text, found = re.subn(r"(?s)(\nSTEPS = \{\n.*?)\}", added, steps.read_text())
        assert found
        steps.write_text(text)
        shutil.copytree(tree / "migrations", tree / "hsm_shipper/migrations", dirs_exist_ok=True)

    return release("99.0.0", add_migration)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian 12 with its Python, and nothing of ours: to look at only."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run(["tar", "--extract", "--file", _ARCHIVE, "--directory", folder], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def root(base: Path, tmp_path: Path) -> Iterator[CleanRoot]:
    """The same to install in."""
    root = CleanRoot(base, tmp_path)
    yield root
    root.close()


def deb(folder: Path, package: str = "hsm-action-shipper") -> Path:
    """The one deb of `package` in `folder`."""
    (found,) = folder.glob(f"{package}_*.deb")
    return found


def rpm(folder: Path, package: str = "hsm-action-shipper") -> Path:
    """The one rpm of `package` in `folder`."""
    (found,) = folder.glob(f"{package}-[0-9]*.rpm")
    return found
