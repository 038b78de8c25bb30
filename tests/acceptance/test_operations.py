"""docs/operations.md: every line of the log, every exit code and every alert that it should tell of."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from tests.acceptance.test_manual import PARSERS, all_parsers
from tests.support.log_lines import Said, said_by
from tests.support.shipper import action_line, clean_environment
from tests.support.site import MDT, SimulatedServer
from tests.support.units import UNITS, setting
from tests.support.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/operations.md").read_text()
# The first cell of each row of the tables of lines.
LINES = [
    cell
    for page in ("operations", "consumers")
    for text in [(ROOT / f"docs/{page}.md").read_text().partition("\n## What the log says\n")[2]]
    for cell in re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE)
]
# Errors of a tool are said on its terminal, each with what to do.
SAID = sorted({*said_by(ROOT / "hsm_shipper"), *said_by(ROOT / "hsm_tools", with_errors=False)})


def is_told(said: Said) -> bool:
    """Whether a row has all the words of it, in their order."""
    pattern = re.compile(".*".join(map(re.escape, said.words)))
    return any(pattern.search(line) for line in LINES)


def test_there_are_lines() -> None:
    assert len(SAID) > 80 and len(LINES) > 80


@pytest.mark.parametrize("said", SAID, ids=str)
def test_every_line_of_the_log_is_told(said: Said) -> None:
    assert is_told(said), f"What the log says, in docs/operations.md, has no row for {said}"


def test_a_line_that_nobody_has_told_is_missed() -> None:
    assert not is_told(Said("here", ("this is said", "nowhere")))
    assert not is_told(Said("here", ("reachable", "is Redis up")))  # the words of a row in another order


def test_every_exit_code_is_told() -> None:
    """As the epilogs have them."""
    told: dict[str, set[str]] = defaultdict(set)
    command = ""
    table = TEXT.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    for name, code in re.findall(r"^\| (?:`([a-z -]+)`)? ?\| (\d+) \|", table, re.MULTILINE):
        command = name or command
        told[command].add(code)
    parsers = [parser for each in PARSERS.values() for parser in all_parsers(each)]
    for parser in parsers:
        block = re.search(r"^exit (?:codes|status).*:\n((?:  .*\n)+)", parser.epilog or "", re.MULTILINE)
        assert block, parser.prog
        assert told[parser.prog] == set(re.findall(r"^  (\d+) ", block[1], re.MULTILINE)), parser.prog
    assert told.keys() == {parser.prog for parser in parsers}


def test_the_alerts_that_are_named_exist() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    named = set(re.findall(r"`(Hsm[A-Z]\w+)`", TEXT))
    assert named and named <= alerts


def test_the_first_ten_minutes(good_server: SimulatedServer) -> None:
    """Its commands in their order, with the configuration in the environment."""
    steps = TEXT.partition("\n## The first ten minutes\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^\| \d \| `(hsm-[^`]+)` \|", steps, re.MULTILINE)
    programs = ("hsm-action-shipper check", "hsm-action-shipper --run-once", "hsm-action-top --run-once")
    assert commands == [*programs, "hsm-action-shipper status"]
    server = good_server
    server.add_mdt(MDT, action_line(1), action_line(2))

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            env=clean_environment() | server.environ(),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "0 problem" in run(programs[0])
    assert "shipped 2 NEW" in run(programs[1]) and "shipped 0 NEW" in run(programs[1])
    assert MDT in run(programs[2])
    started = shlex.split(setting(UNITS / "hsm-action-shipper.service", "Service.ExecStart"))
    server.start(command=started, environ=server.environ())
    server.wait_status_ok()
    assert "RUNNING" in run(commands[3])


@pytest.mark.parametrize("include_raw", [True, False])
def test_what_an_entry_takes_in_redis_is_as_told(good_server: SimulatedServer, include_raw: bool) -> None:
    with_raw, without = re.findall(r"(\d+) bytes an entry; (\d+) with `include_raw: false`", TEXT)[0]
    server = good_server
    server.configure(include_raw=include_raw)
    server.add_mdt(MDT, *map(action_line, range(1, 3001)))
    assert server.run("--run-once").returncode == 0
    stream_bytes = server.redis.memory_usage(f"hsm:actions:{MDT}", samples=0)
    assert stream_bytes is not None
    assert stream_bytes / server.redis.xlen(f"hsm:actions:{MDT}") == pytest.approx(
        int(with_raw if include_raw else without), rel=0.15
    )
