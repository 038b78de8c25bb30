"""Histories that the simulation has found, or that it meets too seldom: each as short as it can be, step by step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.contract.stream_ids import unpack_id
from hsm_shipper.maintenance.cycle import CycleResult
from tests.faults.model.life import Life, Mdt, as_content
from tests.faults.model.list_steps import set_status
from tests.faults.model.machine import Machine
from tests.faults.model.referee import digest_of
from tests.faults.model.sizes import Sizes
from tests.simulator.debugfs import Listing


@pytest.fixture(params=[True, False], ids=["of Redis 7", "before Redis 7"])
def life(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Life]:
    machine = Machine()
    with machine.installed():
        life = Life(tmp_path, machine, Sizes(), mdts=1, tells_deleted=request.param)
        yield life
        life.close()


@pytest.fixture
def mdt(life: Life) -> Mdt:
    """One with five records, all of them shipped."""
    (mdt,) = life.mdts
    for rec in range(1, 6):
        mdt.put((1, rec), rec, "ARCHIVE", "WAITING")
    _settle(life)
    return mdt


def _settle(life: Life) -> None:
    """The stream has to be true now, with nothing for maintenance to find."""
    for mdt in life.mdts:
        life.settle(mdt, at_once=True)
        life.check_maintenance(mdt)


def _delete(life: Life, mdt: Mdt, *at: int) -> None:
    stream = life.stream(mdt)
    assert stream is not None
    life.command("XDEL", mdt.key, *[unpack_id(stream.ids[which]) for which in at])
    life.begin_epochs(front_lost=True)


@pytest.mark.parametrize("is_gone", [True, False])
@pytest.mark.parametrize("at", [0, 2])
def test_what_was_deleted_and_healed_may_come_back(life: Life, mdt: Mdt, at: int, is_gone: bool) -> None:
    """Redis is put back to before the deletion: the state file that maintenance corrected knows that it is not that.

    Where the record is gone by then, nobody but the stream knows of it any more, and it has to be purged.
    """
    before = life.server.state()
    _delete(life, mdt, at)
    healed = life.maintain(life.worker(mdt))
    assert isinstance(healed, CycleResult) and healed.missing == 1
    if is_gone:
        del mdt.lines[1, at + 1]
    life.server.streams = before
    life.begin_epochs()
    _settle(life)


def test_a_deletion_below_another_is_told_by_the_number_alone(life: Life, mdt: Mdt) -> None:
    """The worker was not in step: it looks at the stream anew, whose end and highest deleted id are what they were."""
    worker = life.worker(mdt)
    _delete(life, mdt, 3)
    worker.poll()
    _delete(life, mdt, 1)
    worker.kill()
    _settle(life)


def test_two_new_lines_for_a_place_end_nothing(life: Life, mdt: Mdt) -> None:
    """A record got on, and the list holds another in its place as well: the stream goes by the next list."""
    worker = life.worker(mdt)
    set_status(mdt, (1, 2), "STARTED")
    lines = mdt.listing()
    lines.insert(1, lines[1].replace(b"=0x0/0x6", b"=0x0/0x7"))
    worker.next = Listing(as_content(lines))
    result = worker.poll()
    assert result is not None and not result.events and result.lines_not_understood
    _settle(life)


def test_an_entry_with_the_line_of_another_place_is_none(life: Life, mdt: Mdt) -> None:
    """Believed, the line of 2/2 counted as the one of 2/1, and 2/2 was never shipped."""
    for rec in (1, 2):
        mdt.put((2, rec), rec, "RESTORE", "WAITING")
    entry = {"event_type": "NEW", "cat_idx": 2, "rec_idx": 1, "fid": "0x200000401:0x1:0x0", "action": "RESTORE"}
    entry |= {"status": "WAITING", "timestamp": 1_759_401_125, "raw": mdt.lines[2, 2].decode()}
    life.command("XADD", mdt.key, "*", "data", json.dumps(entry))
    _settle(life)


def test_a_hash_of_the_line_of_another_place_has_nothing_said_again_and_again(life: Life, mdt: Mdt) -> None:
    worker = life.worker(mdt)
    entry = {"event_type": "NEW", "cat_idx": 2, "rec_idx": 1, "fid": "0x200000401:0x1:0x0", "action": "RESTORE"}
    entry |= {"status": "WAITING", "timestamp": 1_759_401_125, "hash": digest_of(mdt.lines[1, 1])}
    life.command("XADD", mdt.key, "*", "data", json.dumps(entry))
    worker.poll()
    entries = len(life.stream(mdt) or ())
    worker.poll()
    assert entries == 7 == len(life.stream(mdt) or ()), "the five, that one, and its end"
    _settle(life)


def test_what_was_missed_before_a_catch_up_is_no_doubt_of_what_comes_after_it(life: Life, mdt: Mdt) -> None:
    """A list is cut short, somebody writes, it is whole again, and cut short before its next worker."""
    worker = life.worker(mdt)
    short = Listing(as_content(mdt.listing()[:1]))
    worker.next = short
    worker.poll()
    assert len(worker.replica.unconfirmed_absent) == 4
    life.command("XADD", mdt.key, "*", "data", "{}")
    worker.poll()
    worker.kill()
    worker.next = short
    worker.poll()
    _settle(life)


def test_of_two_consumer_groups_the_one_that_is_behind_holds_the_stream(life: Life, mdt: Mdt) -> None:
    worker = life.worker(mdt)
    life.command("XGROUP", "CREATE", mdt.key, "behind", "0-0")
    life.command("XGROUP", "CREATE", mdt.key, "newer", "$")
    for status in ("STARTED", "SUCCEED"):
        for place in mdt.lines:
            set_status(mdt, place, status)
        worker.poll()
    life.maintain(worker)
    assert len(life.stream(mdt) or ()) == 15
    life.command("XGROUP", "DESTROY", mdt.key, "behind")
    life.maintain(worker)
    assert len(life.stream(mdt) or ()) == 10, "the other was given none of them"
