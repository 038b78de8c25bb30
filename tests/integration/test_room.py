"""A file system without room while states wait for Redis: what waits can be taken out again when Redis is back."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hsm_shipper.state import room as room_module
from hsm_shipper.state import state_file as state_file_module
from hsm_shipper.state.database import LOG_MAX_BYTES
from hsm_shipper.state.room import Room, room_of
from tests.support.core import OneMdt, Wire, lines
from tests.support.outage import OUTAGE, TOLD, fail, filled, go_without_redis

_MIB = 1024 * 1024


class Disk:
    """What the file system of the state folder says that it has left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free_bytes = 1 << 40
        monkeypatch.setattr(room_module, "free_bytes", self._free)
        monkeypatch.setattr(state_file_module, "free_bytes", self._free)

    def _free(self, path: Path) -> int:
        path.stat()
        return self.free_bytes


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Has a terabyte."""
    return Disk(monkeypatch)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 16 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs leave to mount a file system: root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("size", "in_file", "others", "needed"),
    [
        (100_000, 100_000, 0, 100_000 + 2 * _MIB),
        (100 * _MIB, 40 * _MIB, 3, 108 * _MIB),
        (700 * _MIB, 640 * _MIB, 0, 2 * LOG_MAX_BYTES + 2 * _MIB),
    ],
)
def test_what_a_state_file_needs(tmp_path: Path, disk: Disk, size: int, in_file: int, others: int, needed: int) -> None:
    """The file grows by what is in the log alone; to take out needs as much as the file has, or twice the log."""
    for number in range(others + 1):
        with (tmp_path / f"{number}.sqlite3").open("wb") as sparse:
            sparse.truncate(in_file)
    assert room_of(tmp_path / "0.sqlite3", size) == Room(disk.free_bytes - (size - in_file), needed)


def test_what_waits_on_a_small_disk_until_that_is_full_is_taken_out_of_it(
    tmp_path: Path, small_disk: Path, client: redis.Redis, wire: Wire
) -> None:
    actions = tmp_path / "actions"
    mdt = OneMdt(small_disk / "state", client, actions=actions)
    listing = lines(range(1, 1001))
    mdt.poll(*listing)
    mdt.told()
    wire.down = True
    polls = 0
    while not fail(mdt, *lines(range(1, 1001), ("STARTED", "WAITING")[polls % 2])).not_kept:
        polls += 1
    waiting = mdt.replica.waiting.events
    assert waiting > 4000
    others = small_disk / "others"
    with others.open("wb") as file:  # nearly all that is left
        file.write(bytes(_free(small_disk) - _MIB))
    for _ in range(3):
        fail(mdt, *listing)
    wire.down = False
    mdt.poll(*listing)
    assert mdt.replica.waiting.events == 0
    assert len(mdt.told()) >= waiting
    mdt.check(*listing)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_nothing_waits_without_the_room_to_take_it_out(
    mdt: OneMdt, wire: Wire, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    filled(mdt)
    wire.down = True
    fail(mdt, *OUTAGE[0])
    disk.free_bytes = 2 * _MIB
    for listing in (OUTAGE[1], OUTAGE[1], OUTAGE[0]):  # the last has nothing to say, and is no sign of room
        fail(mdt, *listing)
    assert mdt.replica.waiting.events == 2
    assert caplog.text.count(f"the file system of {mdt.state} has 2 MB left for it") == 1
    assert "the outbox: recovered" not in caplog.text
    disk.free_bytes = 10 * _MIB
    fail(mdt, *OUTAGE[2])
    assert "the outbox: recovered" in caplog.text
    wire.down = False
    mdt.poll(*OUTAGE[2])
    assert "1 states of actions came and went meanwhile and are in no stream" in caplog.text
    assert mdt.told() == [*TOLD[:2], "PURGED 1/1 STARTED", "PURGED 1/8 WAITING", *TOLD[5:]]
    mdt.check(*OUTAGE[2])


def test_the_log_is_short_where_room_is(mdt: OneMdt, disk: Disk) -> None:
    """Of a file of which the log holds much, the file system would have to have that much more."""

    def in_log_bytes() -> int:
        state = mdt.replica._opened
        return disk.free_bytes - state.room().left_bytes

    disk.free_bytes = room_module.TIGHT_BYTES
    mdt.poll(*lines(range(1, 20_000)))
    assert in_log_bytes() > _MIB
    disk.free_bytes -= 1
    mdt.poll(*lines(range(2, 20_000)))
    assert in_log_bytes() == 0
    disk.free_bytes += 1
    mdt.poll(*lines(range(2, 30_000)))
    assert in_log_bytes() > _MIB


def test_a_file_system_that_cannot_be_looked_at_lets_nothing_wait(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(mdt)

    def broken(_: Path) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(room_module, "free_bytes", broken)
    monkeypatch.setattr(state_file_module, "free_bytes", broken)
    go_without_redis(mdt, wire, OUTAGE[:1])
    assert f"cannot look at the file system of state file {mdt.state}: Input/output error" in caplog.text
    mdt.poll(*OUTAGE[0])
    mdt.check(*OUTAGE[0])
