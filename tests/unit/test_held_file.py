"""The actions file that stays open from reading to reading: one scan each, and never a descriptor that is dead."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm_shipper.lustre.actions_file import CHUNK_BYTES, ActionsFile, Reading
from tests.simulator.debugfs import DebugfsActions, Listing, error
from tests.support.core import line, lines
from tests.support.waiting import eventually

MANY = range(1, 8001)  # some 1.8 MB
FEW = range(1, 4)


class Mdt:
    """An MDT that is mounted, and the actions file that a worker holds."""

    def __init__(self) -> None:
        self.recs = MANY
        self.next: deque[Listing | OSError] = deque()
        """What the next renderings come to instead of the true listing."""
        self.debugfs = DebugfsActions(self._render)
        self.debugfs.mount()
        self.file = ActionsFile(Path("actions"), self.debugfs.open, hold=True)

    def _render(self) -> Listing:
        listing = self.next.popleft() if self.next else Listing(content(self.recs))
        if isinstance(listing, OSError):
            raise listing
        return listing

    def read(self) -> tuple[list[bytes], str | None]:
        """A reading's lines and its fault."""
        return collected(self.file.read())


def content(recs: range) -> bytes:
    """A listing of those records."""
    return b"".join(data + b"\n" for data in lines(recs))


def collected(reading: Reading) -> tuple[list[bytes], str | None]:
    """All lines of a reading, and its fault."""
    found = [data for some in reading for data in some]
    return found, reading.fault


@pytest.fixture
def mdt() -> Mdt:
    return Mdt()


def no_fault(recs: range) -> tuple[list[bytes], str | None]:
    """A good reading of those records."""
    return lines(recs), None


# In good health


def test_it_is_opened_once_and_scanned_once_for_each_reading_after(mdt: Mdt) -> None:
    scans = []
    for recs in (MANY, MANY[:-5], MANY):
        mdt.recs = recs
        assert mdt.read() == no_fault(recs)
        scans.append(mdt.debugfs.scans)
    assert (mdt.debugfs.opens, scans) == (1, [10, 11, 12])


def test_without_holding_it_is_opened_and_closed_for_each_reading(mdt: Mdt) -> None:
    file = ActionsFile(Path("actions"), mdt.debugfs.open)
    for opens in (1, 2):
        assert collected(file.read()) == no_fault(MANY)
        assert (mdt.debugfs.opens, mdt.debugfs.open_files) == (opens, [])


def test_a_list_that_has_shrunk_gives_the_kernel_its_buffer_back(mdt: Mdt) -> None:
    mdt.read()
    mdt.recs = MANY[: len(MANY) // 2]
    assert mdt.read() == no_fault(mdt.recs)
    assert [file.buffer_bytes for file in mdt.debugfs.open_files] == [2 * 1024 * 1024]
    mdt.recs = FEW
    assert mdt.read() == no_fault(FEW)
    assert mdt.debugfs.open_files == []
    for _ in range(2):
        assert mdt.read() == no_fault(FEW)
    assert [file.buffer_bytes for file in mdt.debugfs.open_files] == [4096]


def test_a_short_list_that_shrinks_is_not_worth_a_fresh_open(mdt: Mdt) -> None:
    for recs in (range(1, 100), FEW[:1], FEW):
        mdt.recs = recs
        assert mdt.read() == no_fault(recs)
    assert mdt.debugfs.opens == 1


def test_a_list_that_seems_to_be_empty_is_opened_again(mdt: Mdt) -> None:
    mdt.read()
    mdt.next.append(Listing(b""))  # as of a kernel that is at its end once and for all
    assert mdt.read() == no_fault(MANY)
    mdt.recs = range(0)
    for _ in range(2):
        assert mdt.read() == no_fault(range(0))
    mdt.recs = FEW
    assert mdt.read() == no_fault(FEW)


def test_a_reading_that_nobody_finished_leaves_the_descriptor_to_the_next(mdt: Mdt) -> None:
    unfinished = mdt.file.read()
    some = next(iter(unfinished))
    assert (mdt.read(), unfinished.fault) == (no_fault(MANY), "it was not read to its end")
    assert len(some) < len(MANY)
    assert mdt.debugfs.opens == 1


def test_a_reading_ends_where_another_one_began(mdt: Mdt) -> None:
    late = mdt.file.read()
    chunks = iter(late)
    found = next(chunks)
    assert mdt.read() == no_fault(MANY)
    assert list(chunks) == []
    assert late.fault == f"cannot read it after {len(found)} lines: it was closed, for it is gone"
    assert mdt.read() == no_fault(MANY)


# Mounts


def test_between_two_readings_it_is_unmounted_and_mounted_again(mdt: Mdt) -> None:
    mdt.read()
    mdt.debugfs.unmount()
    mdt.debugfs.mount()
    assert mdt.read() == no_fault(MANY)
    assert (mdt.debugfs.opens, len(mdt.debugfs.open_files)) == (2, 1)


def test_an_mdt_that_has_left_and_come_back(mdt: Mdt) -> None:
    mdt.read()
    mdt.debugfs.unmount()
    assert mdt.read() == ([], "cannot open it: No such file or directory")
    assert mdt.debugfs.open_files == []
    mdt.debugfs.mount()
    mdt.next.append(error(errno.ENOENT))  # its llog is not attached yet
    assert mdt.read() == ([], "cannot read it after 0 lines: No such file or directory")
    assert mdt.debugfs.open_files == []
    assert mdt.read() == no_fault(MANY)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EBADR, errno.EAGAIN])
def test_an_error_at_the_first_read_of_what_is_held_has_it_opened_again(mdt: Mdt, number: int) -> None:
    mdt.read()
    mdt.next.append(error(number))
    reading = mdt.file.read()
    assert collected(reading) == no_fault(MANY)
    assert (mdt.debugfs.opens, len(mdt.debugfs.open_files), reading.broke_off_held) == (2, 1, False)


def test_an_error_at_the_first_read_after_that_is_one_of_a_fresh_open(mdt: Mdt) -> None:
    mdt.read()
    mdt.next.extend([error(errno.EBADR), error(errno.EBADR)])
    reading = mdt.file.read()
    assert collected(reading) == ([], f"cannot read it after 0 lines: {os.strerror(errno.EBADR)}")
    assert (mdt.debugfs.opens, mdt.debugfs.open_files, reading.broke_off_held) == (2, [], False)


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("is_mounted_again", [True, False])
def test_an_umount_during_the_reading(mdt: Mdt, is_held: bool, is_mounted_again: bool) -> None:
    if is_held:
        mdt.read()
    reading = mdt.file.read()
    chunks = iter(reading)
    found = next(chunks)
    mdt.debugfs.unmount()
    if is_mounted_again:
        mdt.debugfs.mount()
    found += [data for some in chunks for data in some]
    assert found == lines(MANY)[: len(found)] and 0 < len(found) < len(MANY)
    assert reading.fault == f"cannot read it after {len(found)} lines: Input/output error"
    assert reading.broke_off_held is is_held, "only what was held is worth another try"
    assert mdt.debugfs.open_files == []


def test_a_torn_end_is_no_fault_of_the_descriptor(mdt: Mdt) -> None:
    mdt.read()
    mdt.next.append(Listing(content(FEW)[:-1]))
    reading = mdt.file.read()
    assert collected(reading)[0] == lines(FEW[:-1])
    assert (reading.broke_off_held, mdt.debugfs.opens) == (False, 1)


# Closing it


def test_what_is_held_is_closed_when_it_is_gone_and_not_before(mdt: Mdt) -> None:
    mdt.read()
    mdt.file.close_if_gone()
    assert len(mdt.debugfs.open_files) == 1
    mdt.debugfs.unmount()
    mdt.file.close_if_gone()
    assert mdt.debugfs.open_files == []
    mdt.file.close_if_gone()


def test_it_is_closed_in_the_middle_of_a_reading_too(mdt: Mdt) -> None:
    mdt.read()
    reading = mdt.file.read()
    chunks = iter(reading)
    next(chunks)
    mdt.debugfs.unmount()
    mdt.file.close_if_gone()
    assert mdt.debugfs.open_files == []
    assert (list(chunks), reading.broke_off_held) == ([], True)
    assert reading.fault is not None and reading.fault.endswith("it was closed, for it is gone")


def test_another_file_in_its_place_ends_no_reading(mdt: Mdt, tmp_path: Path) -> None:
    path = tmp_path / "actions"
    path.write_bytes(content(MANY))
    file = ActionsFile(path, hold=True)
    reading = file.read()
    chunks = iter(reading)
    found = next(chunks)
    replace(path, content(FEW))
    file.close_if_gone()
    found += [data for some in chunks for data in some]
    assert (found, reading.fault) == no_fault(MANY), "a list that some other program renames into place is whole"
    assert collected(file.read()) == no_fault(FEW)


def test_closed_it_is_opened_again_by_the_next_reading(mdt: Mdt) -> None:
    mdt.read()
    mdt.file.close()
    assert mdt.debugfs.open_files == []
    assert mdt.read() == no_fault(MANY)


# Real files


def replace(path: Path, data: bytes) -> None:
    """As a careful writer does."""
    new = path.with_name("new")
    new.write_bytes(data)
    new.replace(path)


@pytest.mark.parametrize("write", [replace, Path.write_bytes], ids=["replaced", "in place"])
def test_a_plain_file_is_read_as_it_is_now(tmp_path: Path, write: Callable[[Path, bytes], object]) -> None:
    path = tmp_path / "actions"
    file = ActionsFile(path, hold=True)
    for recs in (range(1, 2001), range(1, 2), range(1, 5001), range(0), range(5, 9)):
        write(path, content(recs))
        assert collected(file.read()) == no_fault(recs)
    path.unlink()
    assert collected(file.read()) == ([], "cannot open it: No such file or directory")
    write(path, content(FEW))
    assert collected(file.read()) == no_fault(FEW)
    file.close()


def test_a_plain_file_that_is_cut_while_it_is_read_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "actions"
    path.write_bytes(content(MANY))
    file = ActionsFile(path, hold=True)
    collected(file.read())
    reading = file.read()
    chunks = iter(reading)
    found = next(chunks)
    os.truncate(path, CHUNK_BYTES + 5000)
    found += [data for some in chunks for data in some]
    assert found == lines(MANY)[: len(found)]
    assert reading.fault is not None and reading.fault.startswith("its last line has no newline")
    file.close()


# Files of this kernel, which are seq_files as debugfs' are


def test_a_file_of_the_kernel_is_listed_anew_on_one_descriptor(tmp_path: Path) -> None:
    path, mapped = Path("/proc/self/maps"), tmp_path / "mapped"
    mapped.write_bytes(b"x" * mmap.PAGESIZE)
    file = ActionsFile(path, hold=True)
    for is_mapped in (False, True, False):
        with mapped.open("rb") as opened:
            area = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) if is_mapped else contextlib.nullcontext()
        with area:
            found, fault = collected(file.read())
        assert fault is None and len(found) > 10
        assert any(data.endswith(b"/mapped") for data in found) is is_mapped
        assert held_by("self", path.resolve()) == 1
    file.close()


def test_a_file_of_the_kernel_whose_subject_is_gone_is_opened_again_and_not_there() -> None:
    with subprocess.Popen(["sleep", "3600"]) as process:
        file = ActionsFile(Path(f"/proc/{process.pid}/maps"), hold=True)
        eventually(lambda: collected(file.read())[1] is None and collected(file.read())[0])
        process.kill()
    assert collected(file.read()) == ([], "cannot open it: No such file or directory")


# What is no file


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (make_fifo, "it is no regular file"),
        (make_socket, "No such device or address"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to("/dev/null"), "it is no regular file"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    ],
    ids=["FIFO", "socket", "folder", "device", "loop"],
)
@pytest.mark.timeout(60)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], object], fault: str) -> None:
    path = tmp_path / "actions"
    make(path)
    before = open_descriptors()
    for _ in range(2):
        assert collected(ActionsFile(path, hold=True).read()) == ([], f"cannot open it: {fault}")
    assert open_descriptors() == before


def open_descriptors() -> list[str]:
    """What this process has open."""
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that is wanted


def held_by(pid: int | str, path: Path) -> int:
    """How many descriptors of a process are open on `path`."""
    folder = Path(f"/proc/{pid}/fd")
    return sum(os.path.realpath(link) == str(path) for link in folder.iterdir())


def test_neither_a_child_nor_a_program_that_it_becomes_holds_the_file(tmp_path: Path) -> None:
    path = (tmp_path / "actions").resolve()
    path.write_bytes(line() + b"\n")
    file = ActionsFile(path, hold=True)
    collected(file.read())
    assert held_by("self", path) == 1
    assert not any(os.get_inheritable(int(name)) for name in open_descriptors() if is_at(name, path))
    child = os.fork()
    if child == 0:
        os._exit(held_by("self", path) + 2 * (collected(file.read()) != ([line()], None)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert held_by("self", path) == 1
    assert collected(file.read()) == ([line()], None)
    file.close()
    assert held_by("self", path) == 0


def is_at(name: str, path: Path) -> bool:
    """Whether a descriptor of ours is open on `path`."""
    return os.path.realpath(f"/proc/self/fd/{name}") == str(path)


# Time


def test_the_time_in_the_kernel_is_told_apart(mdt: Mdt, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("hsm_shipper.lustre.held_file.time.perf_counter", lambda: now_s[0])

    def slow() -> Listing:
        now_s[0] += 3.0
        return Listing(content(MANY))

    mdt.debugfs.render = slow
    for polls in (1, 2):
        for _ in mdt.file.read():
            now_s[0] += 0.5  # ours
        assert mdt.file.read_s == 3.0 * polls
