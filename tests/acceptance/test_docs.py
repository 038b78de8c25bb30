"""What the documents promise: queries that run, commands and files that exist."""

from __future__ import annotations

import re
import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hsm_shipper.state.state_file import StateFile

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FOR_DEVELOPERS = [ROOT / name for name in ("docs/architecture.md", "CONTRIBUTING.md", "tests/README.md")]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *PAGES, *FOR_DEVELOPERS})
QUERIES = [
    query
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / "docs/state.md").read_text(), re.DOTALL)
    for query in block.split(";")
    if query.strip()
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_ready_query_runs(query: str, tmp_path: Path) -> None:
    cache = StateFile(tmp_path / "elm-MDT0000.sqlite3")
    with sqlite3.connect(tmp_path / "elm-MDT0000.sqlite3") as connection:
        connection.execute(query)
    cache.close()


def test_every_table_and_view_is_described(tmp_path: Path) -> None:
    cache = StateFile(tmp_path / "elm-MDT0000.sqlite3")
    with sqlite3.connect(tmp_path / "elm-MDT0000.sqlite3") as connection:
        names = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        }
    cache.close()
    text = (ROOT / "docs/state.md").read_text()
    assert {name for name in names if name not in text} == set()


def test_every_command_is_in_the_readme() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    readme = (ROOT / "README.md").read_text()
    assert {name for name in scripts if f"`{name}" not in readme} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, _, heading in (link.partition("#") for link in re.findall(r"\]\(([^)]+)", document.read_text())):
        page = document.parent / target if target else document
        if not target.startswith("http"):
            assert page.exists(), target
            assert not heading or heading in anchors(page.read_text()), f"{target}#{heading}"


def anchors(markdown: str) -> set[str]:
    """What a link may name behind its ``#``: the headings of a page. One right below a table is a row of that table."""
    prose = re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"(?:\A|\n\n)#+ (.*)", prose)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings}


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = set(named(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert menu == {str(path.relative_to(ROOT)) for path in DOCUMENTS}


def named(nav: Any) -> Iterator[str]:
    """The pages that a part of the menu names."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named(part)


@pytest.mark.parametrize("package", ["hsm_shipper", "hsm_tools"])
def test_every_room_is_in_the_architecture(package: str) -> None:
    rooms = {path.parent.relative_to(ROOT / package) for path in (ROOT / package).glob("*/**/__init__.py")}
    files = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py"}
    text = (ROOT / "docs/architecture.md").read_text()
    assert len(rooms) > 5
    assert {room for room in rooms if f"`{room.name}/`" not in text} == set()
    assert {name for name in files if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("document", FOR_DEVELOPERS, ids=lambda path: path.name)
def test_every_path_that_developers_are_told_of_exists(document: Path) -> None:
    paths = set(re.findall(r"`((?:hsm_|tests/|docs/|migrations/|deploy/)[\w./]*)`", document.read_text()))
    assert paths
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_every_tier_and_helper_of_the_tests_is_described() -> None:
    text = (ROOT / "tests/README.md").read_text()
    tiers = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name for name in tiers if f"`{name}/`" not in text} == set()
    helpers = re.findall(r"`(\w+\.py)`", text.partition("## Support")[2].partition("\n## ")[0])
    assert len(helpers) > 5
    assert {name for name in helpers if not (ROOT / "tests/support" / name).exists()} == set()


def test_every_variable_of_the_tests_is_described() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    variables = set(re.findall(r"\bHSM_TEST_[A-Z_]+", sources))
    assert variables
    text = (ROOT / "tests/README.md").read_text()
    assert {name for name in variables if f"`{name}`" not in text} == set()


def test_contributors_are_told_of_every_target_of_make() -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert {target for target in targets if f"`make {target}`" not in text} == {"clean"}


def test_the_changelog_keeps_its_form() -> None:
    headings = re.findall(r"^##+ (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    release = re.compile(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}")
    assert [text for text in headings[1:] if text not in kinds and not release.fullmatch(text)] == []


def test_the_checks_before_a_commit_are_those_of_make_lint() -> None:
    recipe = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    steps = [line.removesuffix(" .") for line in re.findall(r"\$\(BIN\)/(.*)", recipe)]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks]
    assert entries == steps
