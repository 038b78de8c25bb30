"""The state file under a running worker: lost, replaced, broken, full, or changed by somebody else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from hsm_shipper.errors import StateChanged, StateTooNew, StateUnwritable, StreamUnavailable
from hsm_shipper.lustre.kernel_file import RawFile, open_raw
from hsm_shipper.migrations import SET
from hsm_shipper.state import state_file as cache_module
from hsm_shipper.state.state_file import StateFile
from tests.support.core import KEY, FullDisk, OneMdt, Opener, Wire, by_place, digest, line, lines
from tests.support.truth import entries_of

LISTING = lines(range(1, 41))
LATER = [line(1, "STARTED"), *LISTING[1:-1], line(50)]
LATER_TOLD = ["PURGED 1/40 WAITING", "UPDATE 1/1 STARTED", "NEW 1/50 WAITING"]


def entries(mdt: OneMdt) -> int:
    """Length of the stream."""
    return len(entries_of(mdt.client, KEY))


# Lost and replaced


def removed(state: Path) -> None:
    state.unlink()


def removed_with_its_log(state: Path) -> None:
    for path in state.parent.glob(f"{state.name}*"):
        path.unlink()


def replaced_by_nothing(state: Path) -> None:
    state.unlink()
    state.touch()


def replaced_by_garbage(state: Path) -> None:
    state.unlink()
    state.write_bytes(b"\xa5" * 50_000)


def replaced_by_half(state: Path) -> None:
    half = state.read_bytes()[: state.stat().st_size // 2]
    state.unlink()
    state.write_bytes(half)


LOSSES = [removed, removed_with_its_log, replaced_by_nothing, replaced_by_garbage, replaced_by_half]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("listing", [LISTING, LATER], ids=["unchanged", "changed"])
def test_state_lost_while_running_is_made_anew_from_the_stream(
    mdt: OneMdt, loss: Callable[[Path], None], listing: list[bytes]
) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    loss(mdt.state)
    mdt.poll(*listing)
    assert mdt.told() == ([] if listing == LISTING else LATER_TOLD)
    mdt.check(*listing)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_state_lost_between_two_runs_is_made_anew_from_the_stream(mdt: OneMdt, loss: Callable[[Path], None]) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    mdt.replica.close()
    loss(mdt.state)
    mdt.poll(*LATER)
    assert mdt.told() == LATER_TOLD
    mdt.check(*LATER)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_state_that_a_killed_worker_left_and_then_was_lost_is_made_anew(
    mdt: OneMdt, tmp_path: Path, loss: Callable[[Path], None]
) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    left = OneMdt(tmp_path / "left", mdt.client)
    for path in mdt.state.parent.glob(f"{mdt.state.name}*"):  # with its write-ahead log, as kill -9 leaves it
        shutil.copy(path, left.state.parent)
    assert left.state.with_name(f"{left.state.name}-wal").exists()
    loss(left.state)
    left.poll(*LATER)
    assert mdt.told() == LATER_TOLD
    left.check(*LATER)


def test_state_overwritten_in_its_place_is_made_anew_from_the_stream(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    with mdt.state.open("r+b") as file:
        file.write(b"\xa5" * mdt.state.stat().st_size)
    for _ in range(3):
        mdt.shows(*LATER)
        mdt.poller.poll()
    mdt.poll(*LATER)
    mdt.check(*LATER)


def test_an_old_copy_of_the_state_is_brought_up_to_date(mdt: OneMdt, tmp_path: Path) -> None:
    mdt.poll(*LISTING)
    mdt.replica.close()
    shutil.copy(mdt.state, tmp_path / "copy")
    mdt.poll(*LATER)
    mdt.told()
    mdt.replica.close()
    shutil.copy(tmp_path / "copy", mdt.state)
    mdt.poll(*LATER)
    assert mdt.told() == []
    mdt.check(*LATER)


def test_the_state_of_another_stream_is_not_believed(mdt: OneMdt, tmp_path: Path) -> None:
    mdt.poll(*LISTING)
    mdt.client.flushdb()
    other = OneMdt(tmp_path / "mds2", mdt.client, host="mds2")
    other.poll(*lines(range(30, 45)))
    mdt.forget_told()
    mdt.poll(*lines(range(30, 46)))
    assert mdt.told()[-1] == "NEW 1/45 WAITING"
    assert entries(mdt) == 16
    mdt.check(*lines(range(30, 46)))


def test_state_that_goes_while_the_worker_runs_is_remarked_on(mdt: OneMdt, caplog: pytest.LogCaptureFixture) -> None:
    mdt.poll(*LISTING)
    mdt.state.unlink()
    mdt.poll(*LISTING)
    assert caplog.messages == [f"state file {mdt.state} was removed or replaced: it is opened anew"]


def test_broken_state_is_said_to_be_set_aside(mdt: OneMdt, caplog: pytest.LogCaptureFixture) -> None:
    mdt.state.write_bytes(b"\xa5" * 10_000)
    mdt.poll(*LISTING)
    (said,) = caplog.messages
    assert (
        f"it is set aside as {mdt.state}.broken; " in said
        and "they cannot be counted; its worker makes it anew" in said
    )


# Not to be used


def test_a_folder_that_cannot_be_written_is_an_error_and_polling_goes_on(tmp_path: Path, client: redis.Redis) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    mdt.state.mkdir()
    (mdt.state.with_name(f"{mdt.state.name}.broken") / "kept").mkdir(parents=True)  # so that it cannot be set aside
    mdt.shows(*LISTING)
    for _ in range(2):
        assert isinstance(mdt.poller.poll().error, StateUnwritable)
    assert entries(mdt) == 0
    mdt.state.rmdir()
    mdt.poll(*LISTING)
    mdt.check(*LISTING)


def test_state_of_a_newer_release_is_an_error_and_polling_goes_on(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    mdt.replica.close()
    with sqlite3.connect(mdt.state) as connection:
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES (?, '9999_later')", (SET,))
    connection.close()
    mdt.shows(*LATER)
    assert isinstance(mdt.poller.poll().error, StateTooNew)
    assert entries(mdt) == len(LISTING)


def test_a_status_that_cannot_be_saved_is_an_error_and_polling_goes_on(
    mdt: OneMdt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "BUSY_TIMEOUT_S", 0.05)
    mdt.poll(*LISTING)
    other = sqlite3.connect(mdt.state, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert isinstance(mdt.poller.poll().error, StateUnwritable)
    other.execute("ROLLBACK")
    other.close()
    mdt.poll(*LATER)
    mdt.check(*LATER)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[StateFile]:
    """Which state files were loaded."""
    loads: list[StateFile] = []
    load = StateFile.load

    def counted(state: StateFile, index: Any) -> Any:
        loads.append(state)
        return load(state, index)

    monkeypatch.setattr(StateFile, "load", counted)
    return loads


def _no_room(*_: object) -> None:
    raise StateUnwritable("cannot write state file: database or disk is full")


def test_a_status_that_has_no_room_leaves_the_state_file_open(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch, loads: list[StateFile]
) -> None:
    """To load a file of which much waits takes seconds, and without Redis that would be at each poll of a full disk."""
    mdt.poll(*LISTING)
    loads.clear()
    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "save_poll_status", _no_room)
        assert isinstance(mdt.poller.poll().error, StateUnwritable)
        wire.down = True
        for _ in range(3):
            assert isinstance(mdt.poller.poll().error, StreamUnavailable)
        wire.down = False
        mdt.shows(*LATER)
        assert isinstance(mdt.poller.poll().error, StateUnwritable)
    assert loads == []
    mdt.poll(*LATER)
    mdt.check(*LATER)


def test_what_a_reading_missed_and_has_no_room_leaves_the_state_file_open(
    mdt: OneMdt, wire: Wire, monkeypatch: pytest.MonkeyPatch, loads: list[StateFile]
) -> None:
    mdt.poll(*LISTING)
    loads.clear()
    wire.down = True
    with monkeypatch.context() as patch:
        patch.setattr(StateFile, "set_missed", _no_room)
        mdt.shows(LISTING[0])
        for _ in range(3):
            assert isinstance(mdt.poller.poll().error, StateUnwritable)
    wire.down = False
    assert loads == []
    mdt.poll(LISTING[0])
    assert mdt.poll(LISTING[0]).events["PURGED"] == len(LISTING) - 1
    mdt.check(LISTING[0])


def test_a_disk_that_fills_up_between_append_and_commit_sends_nothing_twice(
    mdt: OneMdt, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch)
    mdt.poll(*LISTING)
    many = [*LISTING, *lines(range(100, 2600))]
    mdt.shows(*many)
    disk.fill()
    for _ in range(3):
        assert isinstance(mdt.poller.poll().error, StateUnwritable)
    disk.make_room()
    mdt.poll(*many)
    assert entries(mdt) == len(many)
    mdt.check(*many)


def test_a_full_disk_at_the_first_start_sends_nothing_twice(mdt: OneMdt, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    mdt.replica.open()
    many = lines(range(1, 3000))
    mdt.shows(*many)
    disk.fill()
    assert isinstance(mdt.poller.poll().error, StateUnwritable)
    disk.make_room()
    mdt.poll(*many)
    assert entries(mdt) == len(many)
    mdt.check(*many)


# Changed by another process, as healing does


def edit(mdt: OneMdt, statement: str) -> None:
    """Commit a change of the state file from another connection."""
    with sqlite3.connect(mdt.state) as connection:
        connection.execute(statement)
        connection.execute("UPDATE stream_position SET live_actions = NULL")  # whoever heals renews it
    connection.close()


def drop_told(mdt: OneMdt, words: str) -> None:
    """The stream loses an entry in its middle."""
    mdt.forget_told()
    number = mdt.told().index(words)
    mdt.client.xdel(KEY, entries_of(mdt.client, KEY)[number][0])


BOTH = pytest.mark.parametrize("listing", [LISTING, LATER], ids=["quiet", "busy"])


@BOTH
def test_an_action_that_healing_found_missing_is_sent_again(mdt: OneMdt, listing: list[bytes]) -> None:
    mdt.poll(*LISTING)
    drop_told(mdt, "NEW 1/7 WAITING")
    edit(mdt, "DELETE FROM actions WHERE rec_idx = 7")
    mdt.poll(*listing)
    assert mdt.told().count("NEW 1/7 WAITING") == 1
    mdt.check(*listing)


@BOTH
def test_an_orphan_that_healing_found_is_purged(mdt: OneMdt, listing: list[bytes]) -> None:
    mdt.poll(*LISTING, line(60))
    mdt.poll(*LISTING)
    mdt.poll(*LISTING, line(70))
    drop_told(mdt, "PURGED 1/60 WAITING")
    edit(
        mdt,
        "INSERT INTO actions SELECT cat_idx, 60, '0x200000401:0x3c:0x0', action, status, '0x6b02003c', "
        f"'{digest(line(60)).hex()}', first_seen, status_since, NULL FROM actions WHERE rec_idx = 1",
    )
    mdt.poll(*listing, line(70))
    assert mdt.told().count("PURGED 1/60 WAITING") == 1
    mdt.check(*listing, line(70))


@BOTH
def test_a_state_that_healing_corrected_is_sent_again(mdt: OneMdt, listing: list[bytes]) -> None:
    mdt.poll(*LISTING, line(60))
    mdt.poll(*LISTING, line(60, "STARTED"))
    mdt.poll(*LISTING, line(60, "STARTED"), line(70))
    drop_told(mdt, "UPDATE 1/60 STARTED")
    edit(
        mdt,
        f"UPDATE actions SET status = 'WAITING', hash = '{digest(line(60)).hex()}', status_since = first_seen "
        "WHERE rec_idx = 60",
    )
    mdt.poll(*listing, line(60, "STARTED"), line(70))
    assert mdt.told().count("UPDATE 1/60 STARTED") == 1
    mdt.check(*listing, line(60, "STARTED"), line(70))


def test_a_correction_between_append_and_commit_is_kept(mdt: OneMdt, wire: Wire) -> None:
    mdt.poll(*LISTING)

    def heal() -> None:
        drop_told(mdt, "NEW 1/7 WAITING")
        edit(mdt, "DELETE FROM actions WHERE rec_idx = 7")

    wire.before_append = heal
    mdt.shows(*LATER)
    mdt.poller.poll()
    mdt.poll(*LATER)
    assert sorted(mdt.told()) == sorted([*LATER_TOLD, "NEW 1/7 WAITING"])
    mdt.check(*LATER)


@pytest.mark.parametrize(
    ("correction", "listing"),
    [
        ("DELETE FROM actions WHERE rec_idx = 40", LISTING[:-1]),
        (f"UPDATE actions SET hash = '{'cd' * 16}' WHERE rec_idx = 40", [*LISTING[:-1], line(40, "STARTED")]),
    ],
    ids=["of an action that is gone", "of an action that changed"],
)
def test_a_correction_while_the_file_is_read_does_not_stop_the_polling(
    tmp_path: Path, client: redis.Redis, correction: str, listing: list[bytes]
) -> None:
    opener = Opener()
    mdt = OneMdt(tmp_path, client, opener=opener)
    mdt.poll(*LISTING)

    def corrected(path: Path) -> RawFile:
        edit(mdt, correction)
        return open_raw(path)

    opener.next = corrected
    mdt.poll(*listing)
    mdt.poll(*listing)
    assert {row[0] for row in mdt.known_rows()} == set(by_place(listing))


def test_a_file_that_somebody_keeps_writing_to_waits_for_the_next_poll(mdt: OneMdt, wire: Wire) -> None:
    mdt.poll(*LISTING)

    def write_again() -> None:
        edit(mdt, "UPDATE poll_status SET pid = pid + 1")
        wire.before_append = write_again

    wire.before_append = write_again
    mdt.shows(*LATER)
    assert isinstance(mdt.poller.poll().error, StateChanged)
    wire.before_append = None
    mdt.poll(*LATER)
    assert entries(mdt) == len(LISTING) + len(LATER_TOLD)
    mdt.check(*LATER)
