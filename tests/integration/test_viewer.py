"""Looking at the streams again and again, without anything that draws."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest

from hsm_shipper.errors import CalledOff, StreamRefused
from hsm_tools.dashboard.viewer import Progress, Viewer
from hsm_tools.dashboard.watcher import Watcher
from hsm_tools.filters import ActionFilter
from tests.conftest import PrivateServer
from tests.dashboards import Streams
from tests.servers import RedisServer
from tests.waiting import DEADLINE_S, eventually

A, B = "elm-MDT0000", "elm-MDT0001"


@pytest.fixture
def streams(redis_server: RedisServer, redis_db: int) -> Streams:
    return Streams(redis_server, redis_db)


class Recorded(Viewer):
    """Keeps how far it was on the way."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(streams.config, ActionFilter())
        self.progress: list[Progress] = []

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
    assert str(Progress(250, 1000)) == "Replaying history: 25% of 1,000 entries"
    assert str(Progress(25_000)) == "Catching up: 25,000 entries"
    assert Progress(1500, 1000).part == 1.0, "entries came meanwhile"


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

    watcher.ask(question)
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
