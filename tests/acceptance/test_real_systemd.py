"""A real systemd runs the units of deploy/systemd as they stand, closed in as they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.real_systemd import RealSystemd, why_not
from tests.support.shipper import action_line
from tests.support.site import MDT, SimulatedServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
SHIPPER = "hsm-action-shipper"
AUDITOR = "hsm-stream-reconciler"


@pytest.fixture
def systemd(server: SimulatedServer) -> Iterator[RealSystemd]:
    server.add_mdt(MDT, action_line(1))
    with closing(RealSystemd(server)) as systemd:
        yield systemd


def status(systemd: RealSystemd) -> dict[str, str]:
    return systemd.show(SHIPPER, "ActiveState", "StatusText")


WATCHING = {"ActiveState": "active", "StatusText": "watching 1 MDT"}


def test_it_starts_ships_reloads_is_audited_and_stops(server: SimulatedServer, systemd: RealSystemd) -> None:
    assert systemd.ctl(f"start {SHIPPER}") == 0, systemd.log.read_text()
    assert status(systemd) == WATCHING
    server.wait_events(MDT, 1)
    assert systemd.ctl(f"kill --kill-who=main --signal=HUP {SHIPPER}") == 0
    eventually(lambda: systemd.log.read_text().count("discovery: watching") == 2)
    eventually(lambda: status(systemd) == WATCHING)
    assert systemd.ctl(f"start {AUDITOR}") == 0, systemd.log.read_text()
    assert systemd.ctl(f"stop {SHIPPER}") == 0
    assert systemd.show(SHIPPER, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    log = systemd.log.read_text()
    assert "mdt-elm-MDT0000: stopped" in log and "Traceback" not in log and "ERROR" not in log


def test_one_that_is_killed_is_started_again(server: SimulatedServer, systemd: RealSystemd) -> None:
    assert systemd.ctl(f"start {SHIPPER}") == 0, systemd.log.read_text()
    assert systemd.ctl(f"kill --kill-who=main --signal=KILL {SHIPPER}") == 0
    eventually(lambda: systemd.show(SHIPPER, "NRestarts") == {"NRestarts": "1"} and status(systemd) == WATCHING)


def test_a_stream_that_is_wrong_fails_the_audit(server: SimulatedServer, systemd: RealSystemd) -> None:
    server.redis.xadd(f"hsm:actions:{MDT}", {"data": "no event"})
    assert systemd.ctl(f"start {SHIPPER}") == 0, systemd.log.read_text()
    server.wait_polled_by(MDT)
    assert systemd.ctl(f"start {AUDITOR}") != 0
    assert systemd.show(AUDITOR, "ActiveState", "ExecMainStatus") == {"ActiveState": "failed", "ExecMainStatus": "1"}


def test_a_configuration_that_cannot_be_used_is_for_a_person(server: SimulatedServer) -> None:
    server.configure(poll_interval="never")
    with closing(RealSystemd(server)) as systemd:
        assert systemd.ctl(f"start {SHIPPER}") != 0
        found = systemd.show(SHIPPER, "ActiveState", "ExecMainStatus", "NRestarts")
        assert found == {"ActiveState": "failed", "ExecMainStatus": "2", "NRestarts": "0"}
        assert "poll_interval" in systemd.log.read_text()


def test_what_the_units_hide_is_said_where_it_is_missed(server: SimulatedServer) -> None:
    """The password lies where root's shell, and `check` in it, would see it."""
    server.configure(redis_password_file="/root/.redis.password")
    server.add_mdt(MDT, action_line(1))
    with closing(RealSystemd(server)) as systemd:
        assert systemd.ctl(f"start {SHIPPER}") == 0, systemd.log.read_text()
        eventually(lambda: "do not see /home, /root, /run/user and /tmp" in systemd.log.read_text())
        assert "redis_password_file: cannot read /root/.redis.password" in systemd.log.read_text()
