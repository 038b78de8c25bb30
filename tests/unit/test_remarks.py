"""What tools say on standard error."""

from __future__ import annotations

import logging

import pytest

from hsm_tools.command.remarks import Remarks


def test_errors_of_a_time_without_a_terminal_are_said_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("hsm_tools.dashboard.data.update_thread")
    with Remarks("hsm-action-top").errors_afterwards():
        logger.warning("no error")
        for n in range(20):
            logger.error("looking failed: %s\x1b[2J", n)
        assert capsys.readouterr().err == ""
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 10, "the last of them"
    assert said[-1].startswith("hsm-action-top: ") and said[-1].endswith("looking failed: 19\\x1b[2J")
    logger.error("later")
    assert capsys.readouterr().err.count("hsm-action-top") == 0
