"""A worker's health by its heartbeat."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from msgspec.structs import replace

from hsm_shipper.contract.agents import Copytool
from hsm_shipper.contract.heartbeat import encode
from hsm_tools.live_state.health import Health, read_heartbeat, worker_health
from tests.support.dashboards import heartbeat

COPYTOOL = Copytool(uuid="80379a60", archive_ids=[1], current=0, ok=0, errors=0)
WELL = heartbeat("elm-MDT0000", last_poll_at=1000.0, max_requests=None, copytools=[COPYTOOL])
REMEDY = "set hsm_control to shutdown, then to enabled, and restart the copytools"
STUCK = {"max_requests": 10, "archive_count": 23, "restore_count": 0, "remove_count": 0, "slots_lost_since": 0.0}


def test_no_heartbeat_is_missing() -> None:
    assert worker_health(None, 1000.0) == (Health.MISSING, None, ["no heartbeat"])


def test_missing_and_unreadable_are_two_things() -> None:
    assert read_heartbeat(None) == (None, None)
    assert read_heartbeat(encode(WELL)) == (WELL, None)
    for reply, why in (
        (redis.exceptions.NoPermissionError("no permissions"), "heartbeat cannot be read: no permissions"),
        (redis.ResponseError("WRONGTYPE"), "heartbeat cannot be read: WRONGTYPE"),
        (b'{"host": 1}', "heartbeat does not decode: b'{\"host\": 1}'"),
        (b"", "heartbeat does not decode: b''"),
    ):
        heartbeat, trouble = read_heartbeat(reply)
        assert worker_health(heartbeat, 1000.0, trouble) == (Health.UNREADABLE, None, [why])
    assert len(read_heartbeat(b"x" * 10_000)[1] or "") < 100


def test_all_is_well() -> None:
    assert worker_health(WELL, 1020.0) == (Health.FRESH, 20.0, [])


@pytest.mark.parametrize(
    ("interval_s", "duration_s", "age_s", "state"),
    [
        (20.0, 0.2, 60.0, Health.FRESH),
        (20.0, 0.2, 61.0, Health.OLD),
        (20.0, 90.0, 269.0, Health.FRESH),
        (1.0, 0.2, 10.0, Health.FRESH),
        (1.0, 0.2, 11.0, Health.OLD),
    ],
)
def test_a_poll_is_old_once_three_were_missed(interval_s: float, duration_s: float, age_s: float, state: str) -> None:
    heartbeat = replace(WELL, poll_interval_s=interval_s, last_poll_duration_s=duration_s)
    health = worker_health(heartbeat, 1000.0 + age_s)
    assert health.state == state
    told = [trouble for trouble in health.troubles if not trouble.startswith("last poll took")]
    assert told == ([f"last poll {age_s:.0f} s ago"] if state == Health.OLD else [])


def test_a_clock_that_is_ahead_makes_no_poll_of_the_future() -> None:
    assert worker_health(WELL, 900.0) == (Health.FRESH, 0.0, [])


@pytest.mark.parametrize(
    ("change", "troubles"),
    [
        ({"last_error": "cannot read"}, ["last poll failed: cannot read"]),
        ({"last_poll_duration_s": 20.0}, []),
        ({"last_poll_duration_s": 30.4}, ["last poll took 30.4 s, longer than poll_interval: fewer are made"]),
        (
            {"last_poll_duration_s": 30.4, "last_poll_read_s": 20.16},
            [
                "last poll took 30.4 s (20.2 s of it the kernel's, to give the list), longer than poll_interval: "
                "fewer are made"
            ],
        ),
        ({"last_poll_duration_s": 30.4, "last_error": "cannot read"}, ["last poll failed: cannot read"]),
        ({"hsm_control": "disabled"}, ["coordinator is disabled"]),
        ({"hsm_control": None}, []),
        ({"copytools": []}, ["no copytool"]),
        ({"copytools": None}, []),
        (
            {"copytools": [], "agents_not_understood": 1},
            ["1 copytools are not understood: what they do is not known"],
        ),
        (
            {"lines": 1200, "lines_not_understood": 3},
            [
                "3 of 1,200 lines of the actions file are not understood, and not shipped: "
                "`hsm-action-shipper check` shows the first"
            ],
        ),
        ({"lines_not_understood": 0}, []),
        ({"lines_not_understood": None}, []),
        (
            STUCK,
            ["no slot is left (max_requests 10), and no copytool works on 23 of the 23 active requests: " + REMEDY],
        ),
        (STUCK | {"slots_lost_since": 980.0}, []),
    ],
    ids=str,
)
def test_what_an_operator_should_look_at(change: dict[str, Any], troubles: list[str]) -> None:
    assert worker_health(replace(WELL, **change), 1000.0).troubles == troubles
