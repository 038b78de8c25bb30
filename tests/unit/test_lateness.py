"""Turns that are left out are said, at a low rate, with what held them up; a program that hangs is not fresh."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hsm_shipper.commands.check_redis import clock
from hsm_shipper.commands.status import _program_troubles
from hsm_shipper.process.cadence import Cadence
from hsm_shipper.process.last_look import last_look_path, look_age_s, note_look
from hsm_shipper.process.lateness import Lateness
from hsm_shipper.supervision.supervisord import Program
from hsm_shipper.worker.poll_log import PollLog

_NOW_S = 1_759_401_200.0


def late(left_out: int, late_s: float, took_s: float, held_up_s: float = 0.0) -> Cadence:
    return cast(Cadence, SimpleNamespace(left_out=left_out, late_s=late_s, took_s=took_s, held_up_s=held_up_s))


def test_what_is_left_out_is_said_once_for_a_long_time_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lateness = Lateness(logging.getLogger("t"), "polls", "what is slow?")
    lateness.look(late(0, 0.0, 0.1))
    assert caplog.messages == []
    for _ in range(50):
        lateness.look(late(2, 45.0, 44.0))
    lateness.look(late(0, 0.0, 0.1))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "polls left out: 2; the last one took 44.0 s: what is slow?"),
        ("INFO", "polls in time: recovered after 50 failures (0 s)"),
    ]


def test_one_that_is_left_out_now_and_then_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lateness = Lateness(logging.getLogger("t"), "polls", "what is slow?")
    lateness.look(late(1, 0.6, 0.5))
    lateness.look(late(0, 0.0, 0.1))
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_a_process_that_was_held_up_says_so(caplog: pytest.LogCaptureFixture) -> None:
    Lateness(logging.getLogger("t"), "polls", "what is slow?").look(late(30, 600.0, 0.1, 599.5))
    assert caplog.messages[0].startswith("polls left out: 30; this process was held up for 599.5 s: ")


def test_a_program_that_has_not_looked_for_long_hangs(tmp_path: Path) -> None:
    assert look_age_s(tmp_path, "discovery", _NOW_S) is None
    note_look(tmp_path, "discovery")
    note_look(tmp_path, "discovery")
    path = last_look_path(tmp_path, "discovery")
    assert look_age_s(tmp_path, "discovery", path.stat().st_mtime + 5.0) == pytest.approx(5.0)
    os.utime(path, (_NOW_S, _NOW_S))
    assert look_age_s(tmp_path, "discovery", _NOW_S - 3600.0) == 0.0  # the clock was set back
    note_look(tmp_path / "gone", "discovery")


def test_status_tells_of_it() -> None:
    running, just_begun = Program("RUNNING", 1, 600), Program("RUNNING", 1, 3)
    assert _program_troubles("discovery", running, "none", 90.0, 60.0) == [
        "discovery has not looked for 90 s and hangs: none"
    ]
    assert _program_troubles("discovery", running, "none", 59.0, 60.0) == []
    assert _program_troubles("discovery", just_begun, "none", 9000.0, 60.0) == []  # it is its predecessor's
    # Stopped before its first look, or `run_dir` was emptied and it does not put its file back.
    assert _program_troubles("discovery", running, "none", None, 60.0) == [
        "discovery has not looked for 10 min and hangs: none"
    ]
    assert _program_troubles("discovery", just_begun, "none", None, 60.0) == []
    assert _program_troubles("discovery", None, "none", 0.0, 60.0) == ["discovery is missing: none"]
    for state, told in (
        ("STOPPED", "discovery is STOPPED: none"),
        ("BACKOFF", "discovery is BACKOFF (why: the last line of discovery in the log): none"),
    ):
        assert _program_troubles("discovery", Program(state, 0, 0), "none", None, 60.0) == [told]


@pytest.mark.parametrize(("ahead_s", "how"), [(3600, "3,600 s ahead of"), (-3600, "3,600 s behind")])
def test_a_clock_that_differs_from_redis_is_told(ahead_s: int, how: str, caplog: pytest.LogCaptureFixture) -> None:
    poll_log = PollLog(Path("actions"))
    last_id = f"{round(1000 * _NOW_S)}-5"
    for now in (_NOW_S, _NOW_S + ahead_s, _NOW_S + ahead_s):
        poll_log.clock(last_id, now)
    poll_log.clock("0-0", _NOW_S)  # of a stream that never had an entry
    assert len(caplog.messages) == 1 and how in caplog.messages[0]
    caplog.set_level(logging.INFO)
    poll_log.clock(last_id, _NOW_S + 3.0)
    assert caplog.messages[-1].startswith("the clock: recovered after 2 failures")
    [finding] = clock({"server_time_usec": round(1e6 * _NOW_S)}, _NOW_S + ahead_s)
    assert how in finding.text
    assert not [*clock({"server_time_usec": round(1e6 * _NOW_S)}, _NOW_S + 2)] and not [*clock({}, _NOW_S)]
