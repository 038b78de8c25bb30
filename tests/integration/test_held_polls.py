"""Polls on a held descriptor: an MDT that is unmounted and mounted around them and in the middle of them."""

from __future__ import annotations

import errno
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hsm_shipper.contract.event import NEW, UPDATE
from hsm_shipper.errors import ActionsError, HsmError, StateUnwritable
from hsm_shipper.lustre.actions_file import Reading
from tests.simulator.debugfs import DebugfsActions, Listing
from tests.support.core import FullDisk, OneMdt, line, lines

LISTING = lines(range(1, 7))


class HeldMdt(OneMdt):
    """An MDT in debugfs whose actions file is held; six actions are in the stream."""

    def __init__(self, folder: Path, client: redis.Redis) -> None:
        self.listing = LISTING
        self.next: list[Listing] = []
        """What the next renderings come to."""
        self.debugfs = DebugfsActions(self._render)
        self.debugfs.mount()
        super().__init__(folder, client, opener=self.debugfs.open, hold=True)
        self.poller.poll()
        self.told()

    def shows(self, *listing: bytes) -> None:
        """The kernel's listing from now on."""
        self.listing = list(listing)

    def breaks(self, *before: bytes, then: str = "") -> None:
        """The next reading gives these lines, and then EIO, when the MDT is unmounted or, after that, mounted again."""

        def happen() -> None:
            self.debugfs.unmount()
            if then == "mounted again":
                self.debugfs.mount()

        content = b"".join(data + b"\n" for data in before)
        self.next.append(Listing(content, errno.EIO, at_end=happen if then else None))

    def _render(self) -> Listing:
        return self.next.pop(0) if self.next else Listing(b"".join(data + b"\n" for data in self.listing))


@pytest.fixture
def mdt(tmp_path: Path, client: redis.Redis) -> HeldMdt:
    return HeldMdt(tmp_path / "mds1", client)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's collector of cycles, which looks seldom in a worker, does not look at all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_memory() -> dict[int, object]:
    """Readings and errors that are still there, by `id`."""
    return {id(found): found for found in gc.get_objects() if isinstance(found, Reading | HsmError)}


def test_a_list_that_changes_is_read_anew_on_one_descriptor(mdt: HeldMdt) -> None:
    mdt.poll(line(1, "STARTED"), *LISTING[2:], line(9))
    assert mdt.told() == ["PURGED 1/2 WAITING", "UPDATE 1/1 STARTED", "NEW 1/9 WAITING"]
    mdt.check(line(1, "STARTED"), *LISTING[2:], line(9))
    assert mdt.debugfs.opens == 1


def test_mounted_again_between_two_polls_nothing_has_happened(mdt: HeldMdt) -> None:
    for _ in range(3):
        mdt.debugfs.unmount()
        mdt.debugfs.mount()
        assert mdt.poll(*LISTING).events == {}
    assert len(mdt.debugfs.open_files) == 1


def test_while_it_is_unmounted_nothing_is_purged_and_nothing_held(mdt: HeldMdt) -> None:
    mdt.debugfs.unmount()
    for _ in range(3):
        result = mdt.poller.poll()
        assert isinstance(result.error, ActionsError) and "cannot open it" in str(result.error)
    assert (mdt.told(), mdt.debugfs.open_files) == ([], [])
    mdt.debugfs.mount()
    assert mdt.poll(*LISTING[1:]).events == {"PURGED": 1}


@pytest.mark.parametrize("then", ["", "mounted again"], ids=["an error alone", "mounted again"])
def test_a_poll_whose_held_descriptor_breaks_ships_what_it_gave_and_then_the_whole_list(
    mdt: HeldMdt, then: str
) -> None:
    mdt.breaks(line(1, "STARTED"), line(2), then=then)
    result = mdt.poll(line(1, "SUCCEED"), *lines([4, 5, 6, 7]))
    assert mdt.told() == [
        "UPDATE 1/1 STARTED",
        *(f"PURGED 1/{rec} WAITING" for rec in (2, 3)),
        "UPDATE 1/1 SUCCEED",
        "NEW 1/7 WAITING",
    ]
    assert (result.events[UPDATE], result.events[NEW], result.lines) == (2, 1, 5)
    mdt.check(line(1, "SUCCEED"), *lines([4, 5, 6, 7]))
    assert mdt.debugfs.opens == 2


def test_a_poll_in_whose_middle_it_is_unmounted_ships_what_it_gave_and_purges_nothing(mdt: HeldMdt) -> None:
    mdt.breaks(line(1, "STARTED"), line(2), then="unmounted")
    result = mdt.poller.poll()
    assert isinstance(result.error, ActionsError) and "cannot open it" in str(result.error)
    assert mdt.told() == ["UPDATE 1/1 STARTED"]
    mdt.check(line(1, "STARTED"), *LISTING[1:])
    assert mdt.debugfs.open_files == []


def test_a_fresh_descriptor_that_breaks_too_is_not_followed_by_a_third(mdt: HeldMdt) -> None:
    mdt.breaks(line(1, "STARTED"))
    mdt.breaks(line(1, "STARTED"), line(2, "STARTED"))
    result = mdt.poller.poll()
    assert isinstance(result.error, ActionsError) and "after 2 lines" in str(result.error)
    assert mdt.told() == ["UPDATE 1/1 STARTED", "UPDATE 1/2 STARTED"]
    assert (mdt.debugfs.opens, mdt.debugfs.open_files) == (2, [])


def test_what_the_first_of_two_readings_in_a_poll_missed_is_no_proof_for_the_second(mdt: HeldMdt) -> None:
    mdt.breaks(LISTING[0])
    mdt.poll()  # an empty list, complete for the first time
    assert mdt.told() == []
    mdt.poll()
    assert mdt.told() == [f"PURGED 1/{rec} WAITING" for rec in range(1, 7)]


def test_a_list_that_is_cut_short_and_ends_well_is_believed_at_its_second_poll(mdt: HeldMdt) -> None:
    mdt.poll(*LISTING[:1])
    assert mdt.told() == []
    mdt.poll(*LISTING)
    assert mdt.told() == []
    for _ in range(2):
        mdt.poll(*LISTING[:1])
    assert mdt.told() == [f"PURGED 1/{rec} WAITING" for rec in range(2, 7)]


@pytest.mark.usefixtures("no_collector")
def test_a_poll_that_failed_in_the_middle_of_a_list_has_ended_its_reading(
    tmp_path: Path, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    mdt = HeldMdt(tmp_path / "mds1", client)
    for _ in range(2):
        mdt.poll()
    disk.fill()
    mdt.shows(*lines(range(1, 5001)))  # more than a chunk, of which nothing is known: shipped while it is read
    before = in_memory()
    error = mdt.poller.poll().error
    assert isinstance(error, StateUnwritable), error
    # Left to the collector it would end in the middle of a later one, and wait for that for ever.
    assert in_memory().keys() - before.keys() == {id(error)}
