"""docs/top.md: its commands run, and it, `--help` and the dashboard's own help tell the same."""

from __future__ import annotations

import re
import shlex

import pytest

from hsm_shipper.process import exit_codes as exits
from hsm_tools.dashboard import top_options
from hsm_tools.dashboard.screens.help import ALL_KEYS
from tests.acceptance.test_docs import ROOT
from tests.support.dashboards import COMMAND, Streams
from tests.support.servers import RedisServer
from tests.support.terminal import a_terminal, needs_tmux

TEXT = (ROOT / "docs/top.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
EPILOG = top_options.parser().epilog or ""
EXAMPLES = re.findall(r"^  (hsm-action-top.*?)(?:  .*)?$", EPILOG, re.MULTILINE)
IN_TEXT_MODE = ("--run-once", "-b")
NOT_HERE = "hsm-action-top --mount /lustre"  # a usage error where nothing is mounted


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    streams = Streams(redis_server, redis_db)
    streams.new("elm-MDT0000", range(3), action="RESTORE")
    streams.beat("elm-MDT0000")
    return streams


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 8
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("command", [line for line in COMMANDS + EXAMPLES if any(o in line for o in IN_TEXT_MODE)])
def test_every_command_for_text_runs(streams: Streams, command: str) -> None:
    program, *options = shlex.split(command.partition(">>")[0])
    assert program == "hsm-action-top"
    if "1440" in options:
        options = ["1" if option == "1440" else option for option in options]
    done = streams.run(*options)
    assert done.returncode == 0, done.stderr
    assert "elm-MDT0000 | RESTORE | WAITING    |          3 " in done.stdout


@needs_tmux
def test_every_command_for_the_dashboard_runs(streams: Streams) -> None:
    with a_terminal() as terminal:
        for command in COMMANDS + EXAMPLES:
            if any(option in command for option in IN_TEXT_MODE):
                continue
            terminal.type("clear")
            terminal.type(shlex.join([COMMAND, *shlex.split(command)[1:], *streams.where]))
            if command == NOT_HERE:
                terminal.shows(": no Lustre file system is", "ready:2")
            else:
                terminal.shows("elm-MDT0000 | RESTORE | WAITING |          3 |")
                terminal.press("q")
                terminal.shows("ready:0")


def test_every_exit_code_is_documented() -> None:
    codes = {value for name, value in vars(exits).items() if name.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)} == codes
    in_help = EPILOG.partition("exit codes:")[2].partition("examples:")[0]
    assert {int(code) for code in re.findall(r"^  (\d+) ", in_help, re.MULTILINE)} == codes


def test_every_key_is_documented() -> None:
    keys = {key.strip() for names, _ in ALL_KEYS for key in names.split(",")} - {"Up", "Down"}
    assert {key for key in keys if f"`{key}`" not in TEXT} == set()


def test_every_option_but_those_of_the_connection_is_documented() -> None:
    groups = [group for group in top_options.parser()._action_groups if group.title not in ("options", "connection")]
    options = {option for group in groups for action in group._group_actions for option in action.option_strings}
    assert {option for option in options if option not in TEXT} == {"--delay", "--count"}, "the same as -d and -n"
