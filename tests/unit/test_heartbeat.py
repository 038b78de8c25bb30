"""The heartbeat: what it says, how long it lasts, and the copytools of an `agents` file."""

from __future__ import annotations

import json

import msgspec
import pytest

from hsm_shipper.contract.agents import Copytool, parse_agents
from hsm_shipper.contract.heartbeat import Heartbeat, decode, encode, expiry_s
from tests.simulator import ARCHIVE, SimulatedMds, SimulatedMdt

HEARTBEAT = Heartbeat(
    host="mds1",
    pid=4711,
    mdt="elm-MDT0000",
    last_poll_at=1795352400.5,
    last_poll_duration_s=0.25,
    last_poll_read_s=0.125,
    poll_interval_s=20.0,
    lines=351_204,
    live=351_200,
    backlog=4,
    backlog_since=1795352300,
    last_error="cannot reach",
    failed_polls=7,
    hsm_control="enabled",
    max_requests=1000,
    grace_delay_s=60,
    loop_period_s=10,
    copytools=[Copytool(uuid="80379a60", archive_ids=[1, 2], current=3, ok=120, errors=1)],
)


def test_it_is_json_and_comes_back() -> None:
    data = encode(HEARTBEAT)
    told = json.loads(data)
    assert told["lines"] == 351_204 and told["copytools"][0]["archive_ids"] == [1, 2]
    assert decode(data) == HEARTBEAT


_LINE = b"uuid=%s archive_id=1 requests=[current:1 ok:1 errors:1]\n"


@pytest.mark.parametrize("listing", [_LINE % b"x" * 18_000, _LINE % (b"\xff" * 1_000_000)], ids=["many", "long"])
def test_one_with_all_that_is_read_of_agents_is_one_and_a_larger_one_is_none(listing: bytes) -> None:
    copytools, not_understood = parse_agents(listing)
    beat = msgspec.structs.replace(HEARTBEAT, copytools=copytools)
    assert not_understood == 0 and decode(encode(beat)) == beat
    assert decode(encode(msgspec.structs.replace(HEARTBEAT, last_error="x" * 10_000_000))) is None


def test_one_of_a_newer_release_is_read_and_what_is_none_is_none() -> None:
    told = json.loads(encode(HEARTBEAT)) | {"weather": "fine"}
    assert decode(json.dumps(told).encode()) == HEARTBEAT
    del told["hsm_control"], told["copytools"], told["last_poll_read_s"], told["backlog_since"]
    heartbeat = decode(json.dumps(told).encode())
    assert heartbeat is not None and heartbeat.hsm_control is None and heartbeat.copytools is None
    assert heartbeat.last_poll_read_s is None and heartbeat.backlog_since is None
    del told["failed_polls"]
    earlier = decode(json.dumps(told).encode())
    assert earlier is not None and earlier.failed_polls is None
    deep = b'{"weather":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for data in (b"", b"{}", b"[1]", b"\xff", b'{"host": 1}', b'{"host":"\xff"}', deep):
        assert decode(data) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failed_polls", -1), ("backlog_since", -1),
        ("lines", -1), ("lines_not_understood", -5), ("live", -1), ("backlog", -1), ("max_requests", -1),
        ("archive_count", -1), ("last_poll_at", -5), ("last_poll_at", 1e300), ("last_poll_duration_s", -0.5),
        ("last_poll_read_s", -0.5),
        ("poll_interval_s", -1), ("slots_lost_since", 1e300), ("agents_not_understood", -1),
    ],
)  # fmt: skip
def test_numbers_that_no_worker_tells_are_no_heartbeat(field: str, value: float) -> None:
    told = json.loads(encode(HEARTBEAT)) | {field: value}
    assert decode(json.dumps(told).encode()) is None


@pytest.mark.parametrize(
    ("interval_s", "duration_s", "expiry"), [(20, 0.1, 60), (1, 0.1, 60), (60, 5, 180), (20, 90, 270)]
)
def test_it_lasts_three_polls_and_at_least_a_minute(interval_s: float, duration_s: float, expiry: float) -> None:
    assert expiry_s(interval_s, duration_s) == expiry


def test_agents_as_the_kernel_prints_them() -> None:
    copytools, not_understood = parse_agents(
        b"uuid=80379a60-1f8a-743f-daf2-307cde793ec2 archive_id=ANY requests=[current:0 ok:0 errors:0]\n"
        b"uuid=80379a60-1f8a-743f-daf2-307cde793ec3 archive_id=1,2,-294967296 requests=[current:3 ok:120 errors:7]\n"
    )
    first, second = copytools
    assert (first.uuid, first.archive_ids) == ("80379a60-1f8a-743f-daf2-307cde793ec2", [])
    assert second.archive_ids == [1, 2, 4_000_000_000]  # as of the actions that it is for
    assert (second.current, second.ok, second.errors, not_understood) == (3, 120, 7, 0)
    (late,), not_understood = parse_agents(b"uuid=a archive_id=1 requests=[current:-2 ok:0 errors:2]\n")
    assert (late.current, late.errors, not_understood) == (-2, 2, 0)


def test_agents_that_are_not_understood_are_counted() -> None:
    good = b"uuid=a archive_id=1 requests=[current:0 ok:0 errors:0]"
    bad = [b"", b"uuid=a", good + b" more=1", good.replace(b"ok:0", b"ok:-"), good[:-1], b"\xff\x00"]
    copytools, not_understood = parse_agents(b"\n".join([good, *bad]))
    assert len(copytools) == 1 and not_understood == len(bad)
    assert parse_agents(b"") == ([], 0)


def test_agents_as_the_simulator_shows_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    mds, mdt = SimulatedMds(tmp_path_factory.mktemp("mds")), SimulatedMdt("elm-MDT0000")
    mdt.mount(mds)
    for _ in range(3):
        mdt.start(mdt.submit(ARCHIVE))
    mdt.write()
    copytools, not_understood = parse_agents(mds.agents_path("elm-MDT0000").read_bytes())
    assert sum(copytool.current for copytool in copytools) == 3 and not_understood == 0
