"""Slots of the coordinator that nobody works on: found where they are, and never where they are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from hsm_shipper.contract.agents import Copytool
from hsm_shipper.contract.heartbeat import decode, encode
from hsm_shipper.contract.slots import LOST_AFTER_INTERVALS, Slots
from hsm_shipper.lustre.coordinator import lost_slots, read_slots
from tests.simulator import ARCHIVE, ENABLED, REMOVE, RESTORE, STOPPED, STOPPING, SimulatedMds, SimulatedMdt
from tests.support.beside import MOMENTS, lay_out
from tests.unit.test_heartbeat import HEARTBEAT

MDT = "elm-MDT0000"
LOST = Slots(10, 23, 0, 0, [Copytool(uuid="80379a60", archive_ids=[1], current=0, ok=0, errors=0)])
REMEDY = "set hsm_control to shutdown, then to enabled, and restart the copytools"


def copytools(*current: int) -> list[Copytool]:
    return [
        Copytool(uuid=f"{number}", archive_ids=[], current=requests, ok=0, errors=0)
        for number, requests in enumerate(current)
    ]


@pytest.mark.parametrize(
    ("slots", "lost"),
    [
        (LOST, 23),
        (LOST._replace(archive_count=8, restore_count=1, remove_count=1), 10),
        (LOST._replace(copytools=[]), 23),
        (LOST._replace(copytools=copytools(4, 15)), 4),
        (LOST._replace(copytools=copytools(4, 19)), 0),
        (LOST._replace(copytools=copytools(30)), 0),
        (LOST._replace(copytools=copytools(-5, 23)), 0),
        (LOST._replace(copytools=copytools(-5)), 23),
        (LOST._replace(archive_count=9), 0),
        (LOST._replace(archive_count=0), 0),
        (LOST._replace(max_requests=0, archive_count=0), 0),
    ],
    ids=str,
)
def test_slots_are_lost_where_none_is_left_and_nobody_works_on_some(slots: Slots, lost: int) -> None:
    assert slots.lost == lost


@pytest.mark.parametrize("field", ["max_requests", "archive_count", "restore_count", "remove_count", "copytools"])
def test_what_cannot_be_read_accuses_nobody(field: str) -> None:
    assert Slots(**LOST._asdict() | {field: None}).lost is None


def test_a_copytool_that_is_not_understood_may_work_on_them() -> None:
    assert LOST._replace(agents_not_understood=1).lost is None


@pytest.mark.parametrize("moment", MOMENTS)
def test_as_a_real_coordinator_shows_it(moment: str, tmp_path: Path) -> None:
    slots = read_slots(lay_out(SimulatedMds(tmp_path), MDT, moment))
    assert slots.lost == (23 if moment == "stuck_started" else 0)
    if slots.lost:
        assert str(slots) == (
            "no slot is left (max_requests 10), and no copytool works on 23 of the 23 active requests: " + REMEDY
        )


def test_the_simulator_loses_them_when_its_copytools_are_killed_and_has_them_back_after_a_shutdown(
    tmp_path: Path,
) -> None:
    mds, mdt = SimulatedMds(tmp_path), SimulatedMdt(MDT, max_requests=3)
    mdt.mount(mds)
    for action in (ARCHIVE, RESTORE, REMOVE, ARCHIVE):
        mdt.submit(action)
    mdt.dispatch()
    mdt.write()
    actions = mds.actions_path(MDT)
    assert (read_slots(actions).active, read_slots(actions).lost) == (3, 0)
    mdt.kill_copytools()
    mdt.advance(mdt.active_request_timeout_s + mdt.grace_delay_s + 100)  # the records go, their slots do not
    assert mdt.dispatch() == [] and len(mdt) == 1
    mdt.write()
    assert (read_slots(actions).active, read_slots(actions).lost) == (3, 3)
    for state in (STOPPING, STOPPED, ENABLED):
        mdt.set_hsm_control(state)
    assert len(mdt.dispatch()) == 1
    mdt.write()
    assert (read_slots(actions).active, read_slots(actions).lost) == (1, 0)


def test_a_command_believes_it_only_after_several_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mds = SimulatedMds(tmp_path)
    stuck, busy = "elm-MDT0000", "elm-MDT0001"
    mdts = {stuck: lay_out(mds, stuck, "stuck_started"), busy: lay_out(mds, busy, "stuck_started")}
    looks: list[float] = []

    def time_passes(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:  # what was on its way to the copytool has come
            mds.write_tunables(busy, {"archive_count": 0})

    monkeypatch.setattr(time, "sleep", time_passes)
    assert lost_slots(mdts).keys() == {stuck}
    assert len(looks) == 4
    mds.write_tunables(stuck, {"archive_count": 9})
    looks.clear()
    assert lost_slots(mdts) == {} and looks == []  # and where there is nothing to suspect, it waits for nothing


def test_a_heartbeat_tells_of_them_only_after_three_polls_in_a_row() -> None:
    beat = replace(HEARTBEAT, max_requests=10, archive_count=23, restore_count=0, remove_count=0)
    since = beat.last_poll_at - LOST_AFTER_INTERVALS * beat.poll_interval_s
    assert beat.lost_slots == beat.slots  # not written by us, for we tell since when
    assert replace(beat, slots_lost_since=since + 1).lost_slots is None
    assert replace(beat, slots_lost_since=since).lost_slots == beat.slots
    assert replace(beat, slots_lost_since=beat.last_poll_at).lost_slots is None
    assert replace(beat, slots_lost_since=beat.last_poll_at + 3600).lost_slots == beat.slots  # the clock was set back
    assert replace(beat, slots_lost_since=since, max_requests=None).lost_slots is None
    assert beat.slots.lost == 20
    again = decode(encode(replace(beat, slots_lost_since=since)))
    assert again is not None and again.lost_slots == beat.slots


def test_a_heartbeat_of_an_earlier_release_accuses_nobody() -> None:
    assert (HEARTBEAT.slots.lost, HEARTBEAT.lost_slots, HEARTBEAT.lines_not_understood) == (None, None, None)
