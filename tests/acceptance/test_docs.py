"""What the documents promise: queries that run, commands and files that exist."""

from __future__ import annotations

import re
import sqlite3
import tomllib
from pathlib import Path

import pytest

from hsm_shipper.state.state_file import Cache

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
QUERIES = [
    query
    for block in re.findall(r"```sql\n(.*?)```", (ROOT / "docs/state.md").read_text(), re.DOTALL)
    for query in block.split(";")
    if query.strip()
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_ready_query_runs(query: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "elm-MDT0000.sqlite3")
    with sqlite3.connect(tmp_path / "elm-MDT0000.sqlite3") as connection:
        connection.execute(query)
    cache.close()


def test_every_table_and_view_is_described(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "elm-MDT0000.sqlite3")
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target
