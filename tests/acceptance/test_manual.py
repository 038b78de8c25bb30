"""Man pages and completion: they say all that the parsers do, and formatters and shells take them."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper import cli
from hsm_tools import reconciler
from hsm_tools.dashboard import top_options
from hsm_tools.statistics import stats_options
from hsm_tools.tailing import tail_options
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
MODULES = (cli, top_options, tail_options, stats_options, reconciler)
PARSERS = {parser.prog: parser for parser in (module.parser() for module in MODULES)}
FORMATTERS = {
    "groff": ["groff", "-mandoc", "-ww", "-z"],
    "mandoc": ["mandoc", "-T", "lint", "-W", "warning"],
    "man": ["man", "--warnings", "-l"],
}
each_command = pytest.mark.parametrize("command", PARSERS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make man` fills."""
    build = tmp_path_factory.mktemp("build")
    subprocess.run([sys.executable, str(ROOT / "deploy/manual.py"), str(build)], check=True, timeout=DEADLINE_S)
    return build


def all_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser of a command and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def options(command: str) -> set[str]:
    """Every option that its help shows, but --help itself, which argparse-manpage leaves out."""
    return {
        option
        for parser in all_parsers(PARSERS[command])
        for action in parser._actions
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
        for option in action.option_strings
    }


def plain(page: Path) -> str:
    """What a page says, without roff's signs."""
    text = re.sub(r"\\\[u([0-9A-F]{4})\]", lambda found: chr(int(found[1], 16)), page.read_text())
    text = text.replace(r"\-", "-").replace(r"\(ti", "~").replace(r"\(ha", "^").replace(r"\&", "").replace(r"\e", "\\")
    return re.sub(r"\\f[BIR]|\\[,/]", "", text)


def test_every_command_has_its_page_and_completion(built: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].keys()
    assert {path.name for path in (built / "man").iterdir()} == {f"{name}.1" for name in scripts}
    for shell, name in (("bash", "{}"), ("zsh", "_{}"), ("fish", "{}.fish")):
        found = {path.name for path in (built / "completion" / shell).iterdir()}
        assert found == {name.format(script) for script in scripts}


@each_command
def test_every_option_and_every_line_of_the_help_is_in_the_page(built: Path, command: str) -> None:
    text = plain(built / f"man/{command}.1")
    assert {option for option in options(command) if not re.search(rf"(^|, ){option}\b", text, re.MULTILINE)} == set()
    lines = {" ".join(line.split()) for line in text.splitlines()}
    for parser in all_parsers(PARSERS[command]):
        headings = re.compile(r".*:$")
        told = {" ".join(line.split()) for line in (parser.epilog or "").splitlines() if not headings.match(line)}
        assert told - lines - {""} == set()
    titles = re.findall(r"^\.SH (.*)$", text, re.MULTILINE)
    assert titles[0] == "NAME"
    assert {"SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"} <= {*titles}
    assert titles.index("EXIT STATUS") < titles.index("EXAMPLES") < titles.index("SEE ALSO") == len(titles) - 1


@each_command
@pytest.mark.parametrize("formatter", FORMATTERS)
def test_formatters_find_no_fault(built: Path, command: str, formatter: str) -> None:
    if shutil.which(formatter) is None:
        pytest.skip(f"needs {formatter} (Debian: apt-get install groff mandoc man-db)")
    words = [*FORMATTERS[formatter], str(built / f"man/{command}.1")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.stderr == "" and done.returncode == 0
    assert formatter == "man" or done.stdout == ""


@each_command
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_read_the_completion(built: Path, command: str, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (script,) = (built / "completion" / shell).glob(f"*{command}*")
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")


COMPLETED = [
    ("hsm-action-shipper", "ch", {"check"}),
    ("hsm-action-shipper", "--run", {"--run-once"}),
    ("hsm-action-shipper check", "--", {"--config", "--help", "--json"}),
    ("hsm-stream-stats --format", "p", {"prometheus"}),
    ("hsm-stream-stats -c", "pyproj", {"pyproject.toml"}),
    ("hsm-stream-tail", "--no-f", {"--no-follow"}),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("line", "begun", "expected"), COMPLETED)
def test_bash_completes(built: Path, line: str, begun: str, expected: set[str]) -> None:
    command = line.split()[0]
    script = f"""
        source {built}/completion/bash/{command}
        COMP_WORDS=({line} {begun}) COMP_CWORD={len(line.split())} COMP_LINE="{line} {begun}" COMP_POINT=${{#COMP_LINE}}
        function=$(complete -p {command} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function {command} {begun} {line.split()[-1]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    command_line = ["bash", "--norc", "-c", script]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.stderr == ""
    assert set(done.stdout.split()) == expected
