"""The installed commands with several reading processes: whatever happens to one of them, none is left over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import stats_runs
from tests.support.dashboards import COMMAND, ENVIRONMENT, Streams
from tests.support.servers import RedisServer
from tests.support.side_by_side import ended, fill, gone, reading_process
from tests.support.waiting import eventually

TOP = [COMMAND, "--run-once"]
STATS = [stats_runs.COMMAND]


@pytest.fixture
def long_streams(redis_server: RedisServer, redis_db: int) -> Iterator[Streams]:
    """Streams that the commands read in two processes."""
    streams = fill(redis_server, redis_db)
    yield streams
    streams.client.flushdb()


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(long_streams: Streams) -> Iterator[Start]:
    """Starts a command on them."""
    processes: list[subprocess.Popen[str]] = []

    def started(command: list[str], *options: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [*command, *long_streams.where, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
            )
        )  # fmt: skip
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.communicate()


commands = pytest.mark.parametrize("command", [STATS, TOP], ids=["stats", "top"])


@commands
def test_a_process_that_is_killed_is_a_clear_error(start: Start, command: list[str]) -> None:
    reading = start(command, "--jobs", "2")
    child = reading_process(reading)
    os.kill(child, signal.SIGKILL)
    reading.send_signal(signal.SIGCONT)
    status, said = ended(reading)
    assert status == 1
    assert said.startswith(f"{Path(command[0]).name}: the process that was to read stream hsm:actions:elm-MDT00")
    assert "was ended by signal 9 (Killed); has the kernel killed it for lack of memory? With --jobs 1 " in said
    assert said.count("\n") == 1 and gone(child)


@commands
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_ends_them_all(start: Start, command: list[str], number: signal.Signals) -> None:
    reading = start(command, "--jobs", "2")
    child = reading_process(reading)
    reading.send_signal(number)
    reading.send_signal(signal.SIGCONT)
    status, said = ended(reading)
    assert (status, said) == (130 if number == signal.SIGINT else -number, "")
    eventually(lambda: gone(child))


def test_what_a_terminal_sends_to_all_of_them_ends_only_the_one_that_was_started(start: Start) -> None:
    """The others would be told to be dead, or would show where they were, before that one has ended."""
    reading = start(STATS, "--jobs", "2")
    child = reading_process(reading)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)
    reading.send_signal(signal.SIGCONT)
    assert ended(reading) == (0, "")
    eventually(lambda: gone(child))
