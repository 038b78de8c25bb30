"""`--jobs`: in how many processes streams are read."""

from __future__ import annotations

import os
from types import ModuleType

import pytest

from hsm_tools.command.options import jobs
from hsm_tools.dashboard import top_options
from hsm_tools.statistics import stats_options

commands = pytest.mark.parametrize("command", [stats_options, top_options])


@commands
@pytest.mark.parametrize("text", ["0", "-1", "65", "1.5", "all", "", "٢", "1 2"])
def test_what_is_no_number_of_processes_is_an_error(
    command: ModuleType, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.parser().parse_args([f"--jobs={text}"])
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"{command.PROGRAM}: error: argument --jobs: {text!r} is no whole number from 1 to 64"


@commands
def test_it_is_what_is_given(command: ModuleType) -> None:
    assert jobs(command.parser().parse_args(["--jobs", "3"])) == 3


@pytest.mark.parametrize(("processors", "expected"), [(1, 1), (2, 2), (4, 4), (128, 4)])
def test_without_it_each_processor_that_may_be_used_has_one(
    monkeypatch: pytest.MonkeyPatch, processors: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    assert jobs(stats_options.parser().parse_args([])) == expected
