"""What the log can say, read from the sources: the words of log calls, and those of the errors that they tell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

from hsm_shipper import errors

ROOT = Path(__file__).parents[2]
# Standard error is the log of a service.
_SAYS_BY_ITSELF = frozenset({"say", "print_err"})
# RepeatedErrors has `failed`; supervisord's logger has `warn`.
_SAYS = frozenset({"info", "warning", "warn", "error", "critical", "exception", "log", "failed"})
_LOGS = frozenset({"_log", "logger", "_logger", "_errors"})
# Of a command line that cannot be used, and of an entry: its line in the log tells of the entry.
_ELSEWHERE = (errors.ConfigError, errors.MalformedEvent)
_ERRORS = {
    name
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, errors.HsmError) and found not in _ELSEWHERE
}
# %s of logging, and {…} of an f-string: what is different each time.
_PLACEHOLDER = re.compile(r"%(?:\.\d+)?[sdfg]|\0")


class Said(NamedTuple):
    """A line, or what is told in one: where it comes from, and its words between what is different each time."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: {' … '.join(self.words)}"


def said_by(package: Path, *, with_errors: bool = True) -> Iterator[Said]:
    """All of a package that has words of its own; `_log.error("%s", error)` has none, the error has."""
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.Module)):
                yield from _said_in(function, str(path.relative_to(ROOT)), with_errors=with_errors)


def _said_in(function: ast.AST, path: str, *, with_errors: bool) -> Iterator[Said]:
    inner = [*_own_nodes(function)]
    named = [(ast.unparse(node.targets[0]), node.value) for node in inner if _is_naming(node)]
    for call in inner:
        if isinstance(call, ast.Call) and (_is_log_call(call) or (with_errors and _is_error(call))):
            for text in _texts(call, named):
                words = tuple(part for part in (part.strip(" :;,.()'") for part in _PLACEHOLDER.split(text)) if part)
                if words:
                    yield Said(f"{path}:{call.lineno}", words)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What is in a function, and in no function in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef):
            yield node
            yield from _own_nodes(node)


def _is_naming(node: ast.AST) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)


def _is_log_call(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name) and call.func.id in _SAYS_BY_ITSELF:
        return True
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in _SAYS:
        return False
    receiver = call.func.value
    name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
    return name in _LOGS


def _is_error(call: ast.Call) -> bool:
    return getattr(call.func, "id", getattr(call.func, "attr", "")) in _ERRORS


def _texts(call: ast.Call, named: list[tuple[str, ast.expr]]) -> list[str]:
    """The first argument that has words, or all that a name stands for; a level or a key comes before it."""
    arguments = call.args[1:] if getattr(call.func, "attr", "") in ("log", "failed") else call.args
    for argument in arguments:
        meant = [value for name, value in named if isinstance(argument, ast.Name) and name == argument.id]
        texts = [text for text in map(_literal, meant or [argument]) if text]
        if texts:
            return texts
    return []


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return ""
