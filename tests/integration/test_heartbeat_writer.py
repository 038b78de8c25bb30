"""Writing the heartbeat, on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import redis
from msgspec.structs import replace

from hsm_shipper.config import Config
from hsm_shipper.contract.heartbeat import Heartbeat, decode
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.errors import ActionsError, StreamError, StreamUnavailable
from hsm_shipper.worker.heartbeat_writer import HeartbeatWriter
from hsm_shipper.worker.main import after_poll
from hsm_shipper.worker.poll_result import PollResult
from tests.conftest import PrivateServer
from tests.simulator import ARCHIVE, SimulatedMds, SimulatedMdt
from tests.support.beside import lay_out
from tests.support.core import shipper_client

MDT = "elm-MDT0000"
KEY = heartbeat_key("hsm:actions", MDT)


@pytest.fixture
def mds(tmp_path: Path) -> SimulatedMds:
    mds, mdt = SimulatedMds(tmp_path), SimulatedMdt(MDT, grace_delay_s=45, max_requests=7)
    mdt.mount(mds)
    mdt.start(mdt.submit(ARCHIVE))
    mdt.write()
    return mds


def beat(client: redis.Redis, actions: Path, error: StreamError | None = None) -> Heartbeat | None:
    """Beat after a poll, and read what is there."""
    result = replace(
        PollResult.begun(MDT, "mds1"), lines=5, live=4, backlog=1, backlog_since=900, last_poll_duration_s=0.5,
        last_poll_read_s=0.25, error=error,
    )  # fmt: skip
    HeartbeatWriter(client, Config(poll_interval_s=30), MDT, actions).beat(result.status_after(None))
    data = cast("bytes | None", client.get(KEY))
    return None if data is None else decode(data)


def test_it_tells_of_the_poll_and_of_the_coordinator(private_server: PrivateServer, mds: SimulatedMds) -> None:
    client = shipper_client(private_server(), 0)
    told = beat(client, mds.actions_path(MDT))
    assert told is not None
    assert (told.host, told.mdt, told.lines, told.live, told.backlog, told.backlog_since) == (
        "mds1", MDT, 5, 4, 1, 900,
    )  # fmt: skip
    assert (told.poll_interval_s, told.last_poll_duration_s, told.last_poll_read_s) == (30, 0.5, 0.25)
    assert told.last_error is None
    assert (told.hsm_control, told.max_requests, told.grace_delay_s, told.loop_period_s) == ("enabled", 7, 45, 10)
    assert told.copytools is not None and sum(copytool.current for copytool in told.copytools) == 1
    assert 85_000 < client.pttl(KEY) <= 90_000


def test_it_tells_how_many_polls_failed(private_server: PrivateServer, mds: SimulatedMds) -> None:
    client = shipper_client(private_server(), 0)
    pulse = HeartbeatWriter(client, Config(), MDT, mds.actions_path(MDT))
    for error, told in ((None, 0), (StreamUnavailable("away"), None), (ActionsError("EIO"), 2), (None, 2)):
        result = replace(PollResult.begun(MDT, "mds1"), error=error)
        result.status = result.status_after(None)
        client.delete(KEY)
        after_poll(result, pulse)
        beat = decode(cast(bytes, client.get(KEY) or b""))
        assert (beat and beat.failed_polls) == told, error


def test_it_tells_what_was_wrong_and_what_cannot_be_read(private_server: PrivateServer, tmp_path: Path) -> None:
    client = shipper_client(private_server(), 0)
    told = beat(client, tmp_path / MDT / "hsm/actions", StreamError("it failed"))
    assert told is not None and told.last_error == "it failed"
    assert (told.hsm_control, told.max_requests, told.copytools) == (None, None, None)


def test_it_tells_of_lines_that_are_not_understood(private_server: PrivateServer, mds: SimulatedMds) -> None:
    client = shipper_client(private_server(), 0)
    status = replace(PollResult.begun(MDT, "mds1"), lines=5, lines_not_understood=2).status_after(None)
    HeartbeatWriter(client, Config(), MDT, mds.actions_path(MDT)).beat(status)
    told = decode(cast(bytes, client.get(KEY)))
    assert told is not None and (told.lines, told.lines_not_understood) == (5, 2)


def test_it_tells_since_when_slots_are_lost(
    private_server: PrivateServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = shipper_client(private_server(), 0)
    mds = SimulatedMds(tmp_path)
    pulse = HeartbeatWriter(client, Config(), MDT, lay_out(mds, MDT, "stuck_started"))

    def beat_at(at: float) -> Heartbeat:
        pulse.beat(replace(PollResult.begun(MDT, "mds1").status_after(None), last_poll_at=at))
        told = decode(cast(bytes, client.get(KEY)))
        assert told is not None
        return told

    first = beat_at(1000.0)
    assert (first.archive_count, first.restore_count, first.remove_count, first.slots.lost) == (23, 0, 0, 23)
    assert (first.slots_lost_since, first.lost_slots) == (1000.0, None)
    assert (beat_at(1020.0).slots_lost_since, beat_at(1020.0).lost_slots) == (1000.0, None)
    assert caplog.records == []
    assert beat_at(1039.9).lost_slots == first.slots
    beat_at(1060.0)
    assert caplog.messages == [str(first.slots)]  # once for a long time
    mds.write_tunables(MDT, {"archive_count": 9})
    assert (beat_at(1400.0).slots_lost_since, beat_at(1400.0).lost_slots) == (None, None)
    mds.write_tunables(MDT, {"archive_count": 10})
    assert beat_at(1420.0).slots_lost_since == 1420.0


def test_one_that_cannot_be_written_is_said_once(
    private_server: PrivateServer, mds: SimulatedMds, caplog: pytest.LogCaptureFixture
) -> None:
    server = private_server()
    client = shipper_client(server, 0)
    server.kill()
    pulse = HeartbeatWriter(client, Config(), MDT, mds.actions_path(MDT))
    status = PollResult.begun(MDT, "mds1").status_after(None)
    for _ in range(3):
        pulse.beat(status)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"cannot write the heartbeat {KEY} at redis://localhost:6379/1" in caplog.text
