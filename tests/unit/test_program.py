"""How the programs of supervisord begin and end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.config import Config
from hsm_shipper.errors import SupervisorError
from hsm_shipper.process import program
from hsm_shipper.process.program import run_program


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger is put back as it was."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:], logger.level = before, level


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration."""
    (tmp_path / "shipper.yaml").write_text("poll_interval: 7\n")
    return tmp_path / "shipper.yaml"


def _never(_: Config) -> None:
    pytest.fail("it began")


def test_it_runs_with_its_configuration(file: Path) -> None:
    given: list[Config] = []
    assert run_program("discovery", file, given.append) == 0
    assert [config.poll_interval_s for config in given] == [7.0]


def test_without_a_configuration_it_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program("discovery", tmp_path / "none.yaml", _never) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("discovery: ") and "none.yaml" in said


def test_without_its_parent_it_does_not_begin(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone() -> None:
        raise SupervisorError("supervisord (pid 1) is gone already")

    monkeypatch.setattr(program, "exit_with_parent", gone)
    assert run_program("maintenance", file, _never) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("ERROR maintenance: supervisord (pid 1) is gone already")


def test_what_nobody_thought_of_is_said_with_its_traceback(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: Config) -> None:
        raise ValueError("nobody thought of it")

    assert run_program("maintenance", file, run) == 1
    said = capsys.readouterr().err
    assert "ERROR maintenance: this process ends: an error that should not be possible" in said
    assert "ValueError: nobody thought of it" in said.splitlines()
