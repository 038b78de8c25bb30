"""Looking at the streams again and again, without anything that draws."""

from __future__ import annotations

import re
import threading
import time
from typing import Any, cast

import pytest

from hsm_shipper.errors import CalledOff, StreamRefused
from hsm_tools.command.filters import ActionFilter
from hsm_tools.dashboard.data.update_thread import UpdateThread
from hsm_tools.dashboard.data.view_updater import ReplayProgress, ViewUpdater
from tests.conftest import PrivateServer
from tests.support.dashboards import Streams
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S, eventually

A, B = "elm-MDT0000", "elm-MDT0001"


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    return Streams(redis_server, redis_db)


class Recorded(ViewUpdater):
    """Keeps how far it was on the way."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams.config, ActionFilter())
        self.progress: list[ReplayProgress] = []

    def _show(self, **changes: Any) -> None:
        super()._show(**changes)
        if self.view.progress is not None:
            self.progress.append(self.view.progress)


def test_the_first_replay_tells_how_far_it_is_of_all_there_is(streams: Streams) -> None:
    streams.new(A, range(5000))
    streams.new(B, range(3000))
    updater = Recorded(streams)
    updater.look()
    done = [progress.done for progress in updater.progress]
    assert len(done) >= 8
    assert done == sorted(done)
    assert done[-1] < 8000
    assert {progress.total for progress in updater.progress} == {8000}
    assert updater.view.progress is None
    assert updater.view.state is not None and updater.view.state.live == 8000
    updater.close()


def test_a_replay_that_redis_interrupts_goes_on_where_it_was(private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes")
    streams = Streams(server, 0)
    streams.new(A, range(8000))

    class Interrupted(Recorded):
        def _page(self, entries: int) -> None:
            super()._page(entries)
            if len(self.progress) == 4:
                server.kill()

    updater = Interrupted(streams)
    updater.look()
    assert updater.view.state is None
    assert re.match(r"No answer for [\dms ]+, trying again", updater.view.status(time.time()))
    server.start()
    updater.look()
    done = [progress.done for progress in updater.progress]
    assert done == sorted(done), "nothing was read twice"
    assert updater.view.state is not None and updater.view.state.live == 8000
    updater.close()


def test_what_is_told_of_progress() -> None:
    assert str(ReplayProgress(250, 1000)) == "Replaying history: 25% of 1,000 entries"
    assert str(ReplayProgress(25_000)) == "Catching up: 25,000 entries"
    assert ReplayProgress(1500, 1000).part == 1.0, "entries came meanwhile"


def test_a_replay_stops_when_it_is_told(streams: Streams) -> None:
    streams.new(A, range(5000))

    class Stopped(Recorded):
        def _page(self, entries: int) -> None:
            if len(self.progress) == 2:
                self.stop()
            super()._page(entries)

    updater = Stopped(streams)
    with pytest.raises(CalledOff):
        updater.look()
    assert len(updater.progress) == 2
    updater.close()


def test_a_server_that_refuses_at_first_ends_it(private_server: PrivateServer) -> None:
    streams = Streams(private_server(requirepass="secret"), 0)
    update_thread = UpdateThread(ViewUpdater(streams.config, ActionFilter()), 0.1)
    update_thread.start()
    assert isinstance(eventually(lambda: update_thread.failure), StreamRefused)
    update_thread.close()
    update_thread.updater.close()


def test_it_may_end_before_it_has_begun(streams: Streams) -> None:
    update_thread = UpdateThread(ViewUpdater(streams.config, ActionFilter()), 0.1)
    update_thread.close()
    assert update_thread.failure is None
    update_thread.updater.close()


def test_who_pauses_before_the_first_look_has_something_to_show(streams: Streams) -> None:
    streams.new(A, range(10))
    update_thread = UpdateThread(ViewUpdater(streams.config, ActionFilter()), 0.05)
    update_thread.paused = True
    update_thread.start()
    state = eventually(lambda: update_thread.updater.view.state)
    streams.new(A, range(10, 20))
    update_thread.look_now()
    eventually(lambda: (now := update_thread.updater.view.state) is not None and now.live == 20)
    assert update_thread.updater.view.before is state, "it looked once, and again when it was told to"
    update_thread.close()
    update_thread.updater.close()


def test_questions_are_answered_between_two_looks_and_while_paused(streams: Streams) -> None:
    streams.new(A, range(10))
    update_thread = UpdateThread(ViewUpdater(streams.config, ActionFilter()), 0.05)
    update_thread.start()
    eventually(lambda: update_thread.updater.view.state)
    update_thread.paused = True
    answered = threading.Event()
    live: list[int] = []

    def question(found: Any) -> None:
        live.extend(len(stream.live) for stream in found)
        answered.set()

    update_thread.ask(question, lambda error: pytest.fail(str(error)))
    assert answered.wait(DEADLINE_S)
    assert live == [10]
    view = update_thread.updater.view
    streams.new(A, range(10, 12))
    update_thread.look_now()
    eventually(lambda: update_thread.updater.view.state is not view.state)
    update_thread.paused = False
    before = update_thread.updater.view.state
    eventually(lambda: update_thread.updater.view.state is not before)
    update_thread.close()
    update_thread.updater.close()


class Broken(ViewUpdater):
    """Looks fail as nobody foresaw, in the middle of it, for as long as it is told."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams.config, ActionFilter())
        self.is_broken = False

    def _page(self, entries: int) -> None:
        super()._page(entries)
        if self.is_broken:
            raise KeyError("mdt")


def test_a_look_that_fails_is_said_and_everything_is_read_anew(
    streams: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    streams.new(A, range(10))
    updater = Broken(streams)
    update_thread = UpdateThread(updater, 0.05, first_rest_s=0.1)
    update_thread.start()
    eventually(lambda: updater.view.state)
    updater.is_broken = True
    streams.new(A, range(10, 20))
    failure = eventually(lambda: updater.view.failure, 60)
    assert failure is not None
    assert failure.why.startswith("looking at the streams failed: KeyError: 'mdt' (test_view_updater.py:")
    assert updater.view.status(failure.since + 5) == "Failed 5s ago, trying again; what was last known is shown"
    assert updater.view.state is not None and updater.view.state.live == 10
    eventually(lambda: len(caplog.records) >= 3, 60)
    assert failure.why in caplog.text and updater.view.failure is not None
    assert updater.view.failure.since == failure.since
    updater.is_broken = False
    eventually(lambda: updater.view.failure is None and (now := updater.view.state) is not None and now.live == 20, 60)
    assert updater.view.remarks == (), "that it was read anew has nothing to do with the stream"
    assert [len(stream.live) for stream in updater.streams] == [20]
    assert update_thread.failure is None
    update_thread.close()
    updater.close()


def test_a_first_look_that_fails_is_tried_again(streams: Streams) -> None:
    streams.new(A, range(10))
    updater = Broken(streams)
    updater.is_broken = True
    update_thread = UpdateThread(updater, 0.05, first_rest_s=0.1)
    update_thread.start()
    eventually(lambda: updater.view.failure, 60)
    updater.is_broken = False
    eventually(lambda: (now := updater.view.state) is not None and now.live == 10, 60)
    update_thread.close()
    updater.close()


def test_a_question_that_fails_is_told_to_who_asked(streams: Streams, caplog: pytest.LogCaptureFixture) -> None:
    streams.new(A, range(10))
    update_thread = UpdateThread(ViewUpdater(streams.config, ActionFilter()), 0.05)
    update_thread.start()
    failures: list[str] = []
    update_thread.ask(lambda _: cast(None, 1 / 0), lambda error: failures.append(str(error)))
    [failure] = eventually(lambda: failures, 60)
    assert failure.startswith(
        "looking through the streams failed: ZeroDivisionError: division by zero (test_view_updater."
    )
    assert failure in caplog.text
    answered = threading.Event()
    update_thread.ask(lambda _: answered.set(), lambda error: pytest.fail(str(error)))
    assert answered.wait(60)
    update_thread.close()
    update_thread.updater.close()
