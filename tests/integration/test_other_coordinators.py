"""Listings that no kernel printed: places with a sign, in no order, and cut short without an error."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hsm_shipper.commands.check import _actions_file
from tests.support.core import FIXTURES, OneMdt, Wire, line

LISTINGS = FIXTURES / "cray-external-coordinator"
LIVES = {"1_forty_waiting": 40, "2_ten_started": 40, "3_twenty_gone": 20, "4_all_gone_but_five": 5}


def listing(name: str) -> list[bytes]:
    """Its lines."""
    return (LISTINGS / f"{name}.txt").read_bytes().splitlines()


@pytest.mark.parametrize("restarted", [True, False])
def test_every_action_of_an_external_coordinator_is_shipped_and_ends(mdt: OneMdt, restarted: bool) -> None:
    for name, live in LIVES.items():
        for _ in range(2):
            result = mdt.poll(*listing(name))
            if restarted:
                mdt.replica.close()
        assert (result.live, result.lines_not_understood) == (live, 0)
        mdt.check(*listing(name))


def test_a_queue_that_was_cut_short_has_lost_nothing(mdt: OneMdt) -> None:
    for _ in range(3):
        for name in ("partial_full", "partial_cut_after_thirty"):
            mdt.poll(*listing(name))
            mdt.replica.close()
    assert [told for told in mdt.told() if told.startswith("PURGED")] == []
    mdt.poll(*listing("partial_full"))
    mdt.check(*listing("partial_full"))


def test_a_short_queue_that_was_cut_short_has_lost_nothing_whatever_its_order(mdt: OneMdt) -> None:
    chance = random.Random(5)
    queue = [line(rec, cat=chance.randrange(-(2**31), 2**32)) for rec in range(1, 9)]
    queue[:3] = [line(1, cat=2), line(2, cat=-1), line(3, cat=1)]
    mdt.poll(*queue)
    for left in range(8):
        mdt.poll(*queue[:left])
        mdt.poll(*queue)
    assert [told for told in mdt.told() if told.startswith("PURGED")] == []
    mdt.check(*queue)


def test_a_short_queue_that_was_cut_short_has_lost_nothing_for_another_process_either(mdt: OneMdt) -> None:
    queue = [line(rec) for rec in (20, 30, 40, 5, 10)]
    mdt.poll(*queue)
    for left in range(5):
        for listing in (queue[:left], queue):
            mdt.restart()
            mdt.poll(*listing)
    assert [told for told in mdt.told() if told.startswith("PURGED")] == []
    mdt.check(*queue)


def test_a_short_queue_that_was_cut_short_has_lost_nothing_after_a_start_without_redis(mdt: OneMdt, wire: Wire) -> None:
    queue = [line(rec) for rec in (20, 30, 40, 5, 10)]
    mdt.poll(*queue)
    mdt.restart()
    wire.down = True
    mdt.shows(*queue[3:])
    assert mdt.poller.poll().error is not None
    wire.down = False
    mdt.poll(*queue[:3])
    mdt.poll(*queue)
    assert [told for told in mdt.told() if told.startswith("PURGED")] == []
    mdt.check(*queue)


def test_a_short_list_of_the_kernel_loses_at_once_what_it_lacks_after_a_restart(mdt: OneMdt) -> None:
    listing = [line(rec) for rec in range(1, 6)]
    mdt.poll(*listing)
    mdt.told()
    mdt.restart()
    mdt.poll(*listing[2:], line(9))
    mdt.restart()
    mdt.poll(*listing[3:], line(9))
    assert sorted(mdt.told()) == ["NEW 1/9 WAITING", *(f"PURGED 1/{rec} WAITING" for rec in (1, 2, 3))]


def test_two_requests_of_one_place_are_told_as_such(
    mdt: OneMdt, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A coordinator that takes the low half of a random cookie for a place gives one of 100,000 twice."""
    told = {}
    for name, twin in (("twin", line(7, "STARTED", fid="0x2:0x3:0x4", cookie=7)), ("torn", b"idx=1/8]")):
        mdt.poll(line(7), twin, line(9))
        told[name] = caplog.messages[-1]
        actions = tmp_path / f"{name}-MDT0000/hsm/actions"
        actions.parent.mkdir(parents=True)
        actions.write_bytes(b"".join(each + b"\n" for each in (line(7), twin, line(9))))
        told[f"{name}, by check"] = _actions_file(name, actions).text
        mdt.poll(line(7), line(9))
    assert {name for name, text in told.items() if "not understood" in text} == {*told}
    assert {name for name, text in told.items() if "whose place another line has too" in text} == {
        "twin", "twin, by check",
    }  # fmt: skip
