"""Looking at the streams again and again, without anything that draws."""

from __future__ import annotations

import re
import threading
import time
from typing import Any, cast

import pytest

from hsm_shipper.errors import CalledOff, StreamRefused
from hsm_tools.command.filters import ActionFilter
from hsm_tools.dashboard.data.update_thread import Watcher
from hsm_tools.dashboard.data.view_updater import ReplayProgress, Viewer
from tests.conftest import PrivateServer
from tests.support.dashboards import Streams
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S, eventually

A, B = "elm-MDT0000", "elm-MDT0001"


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    return Streams(redis_server, redis_db)


class Recorded(Viewer):
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
    viewer = Recorded(streams)
    viewer.look()
    done = [progress.done for progress in viewer.progress]
    assert len(done) >= 8
    assert done == sorted(done)
    assert done[-1] < 8000
    assert {progress.total for progress in viewer.progress} == {8000}
    assert viewer.view.progress is None
    assert viewer.view.picture is not None and viewer.view.picture.live == 8000
    viewer.close()


def test_a_replay_that_redis_interrupts_goes_on_where_it_was(private_server: PrivateServer) -> None:
    server = private_server(appendonly="yes")
    streams = Streams(server, 0)
    streams.new(A, range(8000))

    class Interrupted(Recorded):
        def _page(self, entries: int) -> None:
            super()._page(entries)
            if len(self.progress) == 4:
                server.kill()

    viewer = Interrupted(streams)
    viewer.look()
    assert viewer.view.picture is None
    assert re.match(r"No answer for [\dms ]+, trying again", viewer.view.status(time.time()))
    server.start()
    viewer.look()
    done = [progress.done for progress in viewer.progress]
    assert done == sorted(done), "nothing was read twice"
    assert viewer.view.picture is not None and viewer.view.picture.live == 8000
    viewer.close()


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

    viewer = Stopped(streams)
    with pytest.raises(CalledOff):
        viewer.look()
    assert len(viewer.progress) == 2
    viewer.close()


def test_a_server_that_refuses_at_first_ends_it(private_server: PrivateServer) -> None:
    streams = Streams(private_server(requirepass="secret"), 0)
    watcher = Watcher(Viewer(streams.config, ActionFilter()), 0.1)
    watcher.start()
    assert isinstance(eventually(lambda: watcher.failure), StreamRefused)
    watcher.close()
    watcher.viewer.close()


def test_it_may_end_before_it_has_begun(streams: Streams) -> None:
    watcher = Watcher(Viewer(streams.config, ActionFilter()), 0.1)
    watcher.close()
    assert watcher.failure is None
    watcher.viewer.close()


def test_who_pauses_before_the_first_look_has_something_to_show(streams: Streams) -> None:
    streams.new(A, range(10))
    watcher = Watcher(Viewer(streams.config, ActionFilter()), 0.05)
    watcher.paused = True
    watcher.start()
    picture = eventually(lambda: watcher.viewer.view.picture)
    streams.new(A, range(10, 20))
    watcher.look_now()
    eventually(lambda: (now := watcher.viewer.view.picture) is not None and now.live == 20)
    assert watcher.viewer.view.before is picture, "it looked once, and again when it was told to"
    watcher.close()
    watcher.viewer.close()


def test_questions_are_answered_between_two_looks_and_while_paused(streams: Streams) -> None:
    streams.new(A, range(10))
    watcher = Watcher(Viewer(streams.config, ActionFilter()), 0.05)
    watcher.start()
    eventually(lambda: watcher.viewer.view.picture)
    watcher.paused = True
    answered = threading.Event()
    live: list[int] = []

    def question(found: Any) -> None:
        live.extend(len(stream.live) for stream in found)
        answered.set()

    watcher.ask(question, lambda error: pytest.fail(str(error)))
    assert answered.wait(DEADLINE_S)
    assert live == [10]
    view = watcher.viewer.view
    streams.new(A, range(10, 12))
    watcher.look_now()
    eventually(lambda: watcher.viewer.view.picture is not view.picture)
    watcher.paused = False
    before = watcher.viewer.view.picture
    eventually(lambda: watcher.viewer.view.picture is not before)
    watcher.close()
    watcher.viewer.close()


class Broken(Viewer):
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
    viewer = Broken(streams)
    watcher = Watcher(viewer, 0.05, first_rest_s=0.1)
    watcher.start()
    eventually(lambda: viewer.view.picture)
    viewer.is_broken = True
    streams.new(A, range(10, 20))
    failure = eventually(lambda: viewer.view.failure, 60)
    assert failure is not None
    assert failure.why.startswith("looking at the streams failed: KeyError: 'mdt' (test_view_updater.py:")
    assert viewer.view.status(failure.since + 5) == "Failed 5s ago, trying again; what was last known is shown"
    assert viewer.view.picture is not None and viewer.view.picture.live == 10
    eventually(lambda: len(caplog.records) >= 3, 60)
    assert failure.why in caplog.text and viewer.view.failure is not None
    assert viewer.view.failure.since == failure.since
    viewer.is_broken = False
    eventually(lambda: viewer.view.failure is None and (now := viewer.view.picture) is not None and now.live == 20, 60)
    assert viewer.view.remarks == (), "that it was read anew has nothing to do with the stream"
    assert [len(stream.live) for stream in viewer.streams] == [20]
    assert watcher.failure is None
    watcher.close()
    viewer.close()


def test_a_first_look_that_fails_is_tried_again(streams: Streams) -> None:
    streams.new(A, range(10))
    viewer = Broken(streams)
    viewer.is_broken = True
    watcher = Watcher(viewer, 0.05, first_rest_s=0.1)
    watcher.start()
    eventually(lambda: viewer.view.failure, 60)
    viewer.is_broken = False
    eventually(lambda: (now := viewer.view.picture) is not None and now.live == 10, 60)
    watcher.close()
    viewer.close()


def test_a_question_that_fails_is_told_to_who_asked(streams: Streams, caplog: pytest.LogCaptureFixture) -> None:
    streams.new(A, range(10))
    watcher = Watcher(Viewer(streams.config, ActionFilter()), 0.05)
    watcher.start()
    failures: list[str] = []
    watcher.ask(lambda _: cast(None, 1 / 0), lambda error: failures.append(str(error)))
    [failure] = eventually(lambda: failures, 60)
    assert failure.startswith(
        "looking through the streams failed: ZeroDivisionError: division by zero (test_view_updater.py"
    )
    assert failure in caplog.text
    answered = threading.Event()
    watcher.ask(lambda _: answered.set(), lambda error: pytest.fail(str(error)))
    assert answered.wait(60)
    watcher.close()
    watcher.viewer.close()
