"""The heartbeat of a worker that runs, fails, hangs and stops."""

from __future__ import annotations

import os
import signal
from typing import cast

import pytest

from hsm_shipper.contract.heartbeat import SHORTEST_EXPIRY_S, Heartbeat, decode
from hsm_shipper.contract.redis_keys import heartbeat_key
from tests.simulator import ARCHIVE, ENABLED, STOPPED, SimulatedMdt, populate
from tests.support.site import MDT, SimulatedServer
from tests.support.waiting import eventually

KEY = heartbeat_key("hsm:actions", MDT)
PATIENCE_S = 60.0


def heartbeat(server: SimulatedServer) -> Heartbeat | None:
    """The heartbeat that is there."""
    data = cast("bytes | None", server.redis.get(KEY))
    return None if data is None else decode(data)


def test_a_worker_tells_how_it_does(server: SimulatedServer) -> None:
    mdt = SimulatedMdt(MDT, max_requests=9)
    populate(mdt, 20)
    mdt.start(mdt.submit(ARCHIVE))
    mdt.mount(server.mds)
    server.start()
    first = eventually(lambda: heartbeat(server))
    worker = server.worker(MDT)
    assert first is not None and worker is not None
    assert (first.host, first.mdt, first.pid, first.lines, first.live) == ("mds1", MDT, worker.pid, 21, 21)
    assert (first.hsm_control, first.max_requests, first.last_error) == ("enabled", 9, None)
    assert first.copytools
    again = eventually(lambda: (now := heartbeat(server)) and now.last_poll_at > first.last_poll_at and now)
    assert again
    eventually(lambda: server.redis.pttl(KEY) > (SHORTEST_EXPIRY_S - 5) * 1000)
    assert server.redis.pttl(KEY) <= SHORTEST_EXPIRY_S * 1000
    # It is never taken for a stream.
    assert list(server.redis.scan_iter("hsm:actions:*")) == [b"hsm:actions:elm-MDT0000"]

    actions = server.mds.actions_path(MDT)
    actions.rename(actions.with_name("hidden"))
    actions.mkdir()  # EISDIR, for root as well
    failing = eventually(lambda: (now := heartbeat(server)) and now.last_error and now)
    assert failing and str(actions) in str(failing.last_error)


@pytest.mark.parametrize("how", ["hangs", "is stopped"])
def test_a_worker_that_polls_no_more_is_not_renewed(server: SimulatedServer, how: str) -> None:
    mdt = SimulatedMdt(MDT)
    mdt.mount(server.mds)
    server.start()
    server.wait_running(MDT)
    eventually(lambda: heartbeat(server))
    worker = server.worker(MDT)
    assert worker is not None
    if how == "hangs":
        os.kill(worker.pid, signal.SIGSTOP)
    else:
        server.supervisorctl("stop", f"mdt-{MDT}")
    before = server.redis.pttl(KEY)
    try:
        eventually(lambda: 0 < server.redis.pttl(KEY) < before - 1000)  # twenty polls
    finally:
        if how == "hangs":
            os.kill(worker.pid, signal.SIGCONT)


def test_slots_that_a_killed_copytool_holds_are_told_until_the_coordinator_has_them_back(
    server: SimulatedServer,
) -> None:
    mdt = SimulatedMdt(MDT, max_requests=3)
    for _ in range(5):
        mdt.submit(ARCHIVE)
    mdt.dispatch()
    mdt.mount(server.mds)
    server.start_polled(mdt)
    beat = eventually(lambda: heartbeat(server), PATIENCE_S)
    assert beat is not None and (beat.archive_count, beat.slots.lost, beat.slots_lost_since) == (3, 0, None)
    mdt.kill_copytools()
    mdt.write()
    first = eventually(lambda: (now := heartbeat(server)) and now.slots_lost_since and now, PATIENCE_S)
    assert first and first.slots.lost == 3
    later = eventually(lambda: (now := heartbeat(server)) and now.last_poll_at > first.last_poll_at and now, PATIENCE_S)
    assert later and later.slots_lost_since == first.slots_lost_since
    mdt.set_hsm_control(STOPPED)
    mdt.set_hsm_control(ENABLED)
    assert mdt.dispatch()
    mdt.write()
    eventually(lambda: (now := heartbeat(server)) and now.slots_lost_since is None, PATIENCE_S)


def test_polling_once_leaves_none(server: SimulatedServer) -> None:
    """There is no worker then that could stop."""
    SimulatedMdt(MDT).mount(server.mds)
    assert server.run("--run-once").returncode == 0
    assert heartbeat(server) is None
