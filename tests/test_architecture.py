"""Imports point one way, and the pure core does no I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What others depend on, and the read side of stream, state and list that an auditor shares with the shipper.
CONTRACT = {
    "actions", "address", "events", "live_action", "fold", "entry_ids", "errors", "keys", "config", "connection",
    "connection_age", "command_line", "redis_errors", "state_view", "heartbeat",
}  # fmt: skip
FOR_THE_TOOLS = CONTRACT | {
    "collector",
    "coordinator",
    "page_reader",
    "output",
    "present",
    "reader",
    "replay",
    "rows",
    "stream",
    "trim",
    "whole",
}
PURE = [
    "actions", "agents", "events", "whole", "live_action", "fold", "entry_ids", "stream_head", "heartbeat", "slots",
    "diff", "changes", "outage", "state_values",
]  # fmt: skip
# What pure code may use: none of it reads a clock, a file or a socket.
HARMLESS = {
    "__future__", "array", "collections", "collections.abc", "dataclasses", "hashlib", "itertools", "msgspec", "re",
    "operator", "sys", "typing", "zlib",
}  # fmt: skip


def modules(package: str) -> list[Path]:
    """The source files of a package; some, or the test that asks is worth nothing."""
    found = sorted((ROOT / package).rglob("*.py"))
    assert len(found) > 1, f"no modules in {package}"
    return found


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function; names of `from package import name` too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import: its direction cannot be seen"
            in_package = node.module in ("hsm_shipper", "hsm_tools")
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if in_package else {node.module or ""}
    return names


def of_package(names: set[str], package: str) -> set[str]:
    """Those of `names` that lie in `package`, without its name; the package itself as ''."""
    return {name.removeprefix(package).removeprefix(".") for name in names if name.split(".")[0] == package}


@pytest.mark.parametrize("path", modules("hsm_tools"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_tools_use_of_the_shipper_only_its_contract(path: Path) -> None:
    assert of_package(imported(path), "hsm_shipper") <= FOR_THE_TOOLS


@pytest.mark.parametrize("path", modules("hsm_shipper"), ids=lambda path: path.name)
def test_the_shipper_never_imports_the_tools(path: Path) -> None:
    names = imported(path)
    assert not of_package(names, "hsm_tools")
    assert not of_package(names, "lustre_hsm_action_stream")


@pytest.mark.parametrize("package", ["hsm_shipper", "hsm_tools"])
def test_the_product_never_imports_its_tests(package: str) -> None:
    assert not {path for path in modules(package) if of_package(imported(path), "tests")}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_nothing_that_does_io(module: str) -> None:
    names = imported(ROOT / "hsm_shipper" / f"{module}.py")
    ours = of_package(names, "hsm_shipper")
    assert ours <= {*PURE, "errors"}
    assert names - {f"hsm_shipper.{name}" for name in ours} <= HARMLESS


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_calls_nothing_that_does_io(module: str) -> None:
    tree = ast.parse((ROOT / "hsm_shipper" / f"{module}.py").read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"open", "print", "input", "__import__"}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import os.path, redis", {"os.path", "redis"}),
        ("def f():\n    from hsm_tools.command.text import render", {"hsm_tools.command.text"}),
        ("from hsm_shipper import worker, keys", {"hsm_shipper.worker.main", "hsm_shipper.contract.redis_keys"}),
    ],
    ids=["plain", "late", "from the package"],
)
def test_no_way_to_import_is_overlooked(tmp_path: Path, source: str, names: set[str]) -> None:
    (tmp_path / "module.py").write_text(source)
    assert imported(tmp_path / "module.py") == names
