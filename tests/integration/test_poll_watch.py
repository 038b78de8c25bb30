"""What the auditor waits for before it says that a stream is wrong, by what a worker leaves in its state file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from hsm_shipper.state.poll_status import state_file
from hsm_shipper.state.state_file import StateFile
from hsm_tools.auditing.auditor import PollWatch
from hsm_tools.command.progress_bar import ProgressBar
from tests.support.states import STATUS

Poll = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return state_file(tmp_path, STATUS.mdt)


@pytest.fixture
def poll(path: Path) -> Iterator[Poll]:
    """Leaves what a poll does; one was made."""
    polls = 0

    def leave(*, backlog: int = 0, error: str | None = None) -> None:
        nonlocal polls
        polls += 1
        now = time.time()
        told = replace(STATUS, polls=polls, backlog=backlog, last_poll_at=now, last_error=error, last_error_at=now)
        state.save_poll_status(told if error else replace(told, last_error_at=None))

    with closing(StateFile(path)) as state:
        leave()
        yield leave


@pytest.mark.parametrize("trouble", [{"backlog": 5}, {"error": "Redis is away"}], ids=str)
def test_a_worker_has_settled_after_three_polls_without_trouble(
    path: Path, poll: Poll, trouble: dict[str, object]
) -> None:
    watch = PollWatch(path, 20.0, ProgressBar())
    settled = []
    for told in ({}, {}, trouble, trouble, {}):
        poll(**told)
        watch.wait()
        settled.append(watch.have_settled())
    assert settled == [False, False, False, False, True]
