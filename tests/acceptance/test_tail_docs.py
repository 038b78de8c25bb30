"""docs/tail.md: its commands run, and it and `--help` tell the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hsm_shipper.process import exit_codes as exits
from hsm_tools.tailing import tail_options
from hsm_tools.tailing.template import FIELDS
from tests.support.tails import Tails

TEXT = (Path(__file__).parents[2] / "docs/tail.md").read_text()
COMMANDS = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
EXAMPLES = re.findall(r"^  (hsm-stream-tail.*?)(?:   .*)?$", tail_options.parser().epilog or "", re.MULTILINE)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 15 and len(EXAMPLES) > 5


@pytest.mark.parametrize("command", COMMANDS + EXAMPLES)
def test_every_command_runs(tails: Tails, command: str) -> None:
    program, *options = shlex.split(command, comments=True)
    assert program == "hsm-stream-tail"
    tails.append(status="FAILED")
    done = tails.run(*options, *(() if "--run-once" in options else ("--no-follow",)))
    assert done.returncode == 0, done.stderr


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(exits).items() if name.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)} == codes
    in_help = (tail_options.parser().epilog or "").partition("exit codes:")[2].partition("examples:")[0]
    assert {int(code) for code in re.findall(r"^  (\d+) ", in_help, re.MULTILINE)} == codes


def test_every_option_but_those_of_the_connection_is_documented() -> None:
    groups = [group for group in tail_options.parser()._action_groups if group.title not in ("options", "connection")]
    options = {option for group in groups for action in group._group_actions for option in action.option_strings}
    assert {option for option in options if option not in TEXT} == {"--lines", "--follow"}, (
        "the same as -n; the default"
    )


def test_help_lists_every_field_of_a_template() -> None:
    epilog = tail_options.parser().epilog or ""
    assert [name for name in FIELDS if f"\n  {name} " not in epilog] == []
