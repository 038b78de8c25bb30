"""Histories that the simulation has found, or that it meets too seldom: each as short as it can be, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_shipper.contract.stream_ids import unpack_id
from hsm_shipper.maintenance.cycle import CycleResult
from tests.faults.model.life import Life, Mdt
from tests.faults.model.machine import Machine
from tests.faults.model.sizes import Sizes


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


@pytest.mark.parametrize("at", [0, 2])
def test_what_was_deleted_and_healed_may_come_back(life: Life, mdt: Mdt, at: int) -> None:
    """Redis is put back to before the deletion: the state file that maintenance corrected knows that it is not that."""
    before = life.server.state()
    _delete(life, mdt, at)
    healed = life.maintain(life.worker(mdt))
    assert isinstance(healed, CycleResult) and healed.missing == 1
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
