"""Reading the actions file: whole lines however they come, and how the reading ended."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.lustre.actions_file import CHUNK_BYTES, LINE_MAX_BYTES, ActionsFile, Reading
from tests.support.core import FIXTURES, line, lines


class FakeFile:
    """A file that is opened once; its reads give these chunks, then its end; an error in their place is raised."""

    def __init__(self, *reads: bytes | OSError) -> None:
        self._reads: Iterator[bytes | OSError] = iter(reads)
        self.closed = False

    def read(self, size: int, /) -> bytes:
        """The next chunk."""
        chunk = next(self._reads, b"")
        if isinstance(chunk, OSError):
            raise chunk
        assert len(chunk) <= size
        return chunk

    def rewind(self) -> None:
        """Nobody does."""
        raise AssertionError("it is not held")

    def is_current(self) -> bool:
        """For ever."""
        return True

    def is_gone(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def reading(file: FakeFile) -> Reading:
    """A reading of `file`."""
    return ActionsFile(Path("actions"), lambda _: file).read()


def error(number: int) -> OSError:
    """What a system call raises."""
    return OSError(number, os.strerror(number))


def collected(found: Reading) -> list[bytes]:
    """All lines of a reading."""
    return [data for chunk in found for data in chunk]


# Real files


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.txt")), ids=lambda path: path.stem)
def test_a_real_listing_is_read_line_by_line(path: Path) -> None:
    found = ActionsFile(path).read()
    assert collected(found) == path.read_bytes().splitlines()
    assert (found.lines, found.fault) == (len(path.read_bytes().splitlines()), None)


def test_a_listing_of_several_chunks_is_read_whole(tmp_path: Path) -> None:
    listing = lines(range(1, 5001))
    path = tmp_path / "actions"
    path.write_bytes(b"\n".join(listing) + b"\n")
    assert path.stat().st_size > 4 * CHUNK_BYTES
    found = ActionsFile(path).read()
    chunks = list(found)
    assert [data for chunk in chunks for data in chunk] == listing
    assert (len(chunks) > 4, found.lines, found.fault) == (True, 5000, None)


def test_a_file_that_is_not_there_is_an_incomplete_reading(tmp_path: Path) -> None:
    found = ActionsFile(tmp_path / "actions").read()
    assert (list(found), found.lines, found.fault) == ([], 0, "cannot open it: No such file or directory")


def test_a_folder_in_its_place_is_an_incomplete_reading(tmp_path: Path) -> None:
    found = ActionsFile(tmp_path).read()
    assert (list(found), found.fault) == ([], "cannot open it: Is a directory")


def test_nothing_is_opened_before_the_first_line_is_asked_for(tmp_path: Path) -> None:
    found = ActionsFile(tmp_path / "actions").read()
    (tmp_path / "actions").write_bytes(line() + b"\n")
    assert collected(found) == [line()]


def test_every_reading_opens_the_file_anew(tmp_path: Path) -> None:
    file = ActionsFile(tmp_path / "actions")
    for listing in (lines([1, 2]), [], lines([3])):
        file.path.write_bytes(b"".join(data + b"\n" for data in listing))
        assert collected(file.read()) == listing


# How it ends


def test_an_empty_file_is_a_complete_reading_of_nothing() -> None:
    found = reading(FakeFile())
    assert (list(found), found.lines, found.fault) == ([], 0, None)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.ENOMEM, errno.EBADR])
def test_an_error_at_the_first_read_leaves_nothing(number: int) -> None:
    file = FakeFile(error(number))
    found = reading(file)
    assert list(found) == []
    assert found.fault == f"cannot read it after 0 lines: {os.strerror(number)}"
    assert file.closed


def test_an_error_in_the_middle_leaves_the_lines_before_it() -> None:
    file = FakeFile(line(1) + b"\n" + line(2), b"\n", error(errno.EIO), line(3) + b"\n")
    found = reading(file)
    assert collected(found) == lines([1, 2])
    assert (found.lines, found.fault) == (2, "cannot read it after 2 lines: Input/output error")
    assert file.closed


def test_an_error_in_place_of_the_end_makes_whole_lines_an_incomplete_reading() -> None:
    found = reading(FakeFile(line(1) + b"\n", error(errno.ENOENT)))
    assert collected(found) == [line(1)]
    assert found.fault == "cannot read it after 1 lines: No such file or directory"


def test_a_last_line_without_its_newline_is_left_out_and_makes_the_reading_incomplete() -> None:
    found = reading(FakeFile(line(1) + b"\n" + line(2)[:100]))
    assert collected(found) == [line(1)]
    assert found.fault == "its last line has no newline (100 bytes)"


def test_a_single_line_without_its_newline_is_no_line() -> None:
    found = reading(FakeFile(line(1)))
    assert (list(found), found.lines) == ([], 0)
    assert found.fault is not None


def test_a_reading_that_nobody_finished_is_incomplete() -> None:
    file = FakeFile(line(1) + b"\n", line(2) + b"\n")
    found = reading(file)
    chunks = iter(found)
    assert found.fault == "it was not read to its end"
    next(chunks)
    assert found.fault == "it was not read to its end"
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    assert (found.fault, file.closed) == ("it was not read to its end", True)


def test_the_snapshot_was_taken_at_the_end_of_the_first_read() -> None:
    during: list[float] = []

    class SlowFile(FakeFile):
        def read(self, size: int, /) -> bytes:
            chunk = super().read(size)
            during.append(time.time())
            return chunk

    found = reading(SlowFile(line(1) + b"\n"))
    begun = found.taken_at
    list(found)
    assert len(during) == 2
    assert begun <= during[0] <= found.taken_at <= during[1]


# Chunks


@given(st.lists(st.binary(max_size=8)))
def test_lines_are_the_same_however_the_file_is_split(chunks: list[bytes]) -> None:
    chunks = [chunk for chunk in chunks if chunk]
    whole = b"".join(chunks)
    found = reading(FakeFile(*chunks))
    assert collected(found) == whole.split(b"\n")[:-1]
    assert (found.fault is None) is (whole == b"" or whole.endswith(b"\n"))


@pytest.mark.parametrize("size", [1, 7, 239])
def test_a_listing_in_tiny_reads_is_the_same(size: int) -> None:
    data = b"".join(entry + b"\n" for entry in lines(range(1, 6)))
    found = reading(FakeFile(*(data[at : at + size] for at in range(0, len(data), size))))
    assert (collected(found), found.fault) == (lines(range(1, 6)), None)


def test_no_chunk_without_a_line_is_given_on() -> None:
    assert list(reading(FakeFile(b"ab", b"cd", b"\n", b"ef\n"))) == [[b"abcd"], [b"ef"]]


@pytest.mark.parametrize("size", [CHUNK_BYTES, CHUNK_BYTES - 1, 90_001])
@pytest.mark.parametrize("more", [1, 100_000])
def test_an_overlong_line_is_cut_the_same_however_the_file_is_split(size: int, more: int) -> None:
    data = b"a\n" + b"b" * (LINE_MAX_BYTES + more) + b"\nc\n"
    found = reading(FakeFile(*(data[at : at + size] for at in range(0, len(data), size))))
    assert collected(found) == [b"a", b"b" * LINE_MAX_BYTES, b"c"]
    assert found.fault is None


def test_a_line_just_not_overlong_is_whole() -> None:
    data = b"b" * LINE_MAX_BYTES + b"\n"
    found = reading(FakeFile(*(data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))))
    assert collected(found) == [b"b" * LINE_MAX_BYTES]


def test_a_line_without_end_does_not_take_our_memory() -> None:
    found = reading(FakeFile(*[b"b" * CHUNK_BYTES] * 20))
    assert list(found) == []
    assert found.fault == f"its last line has no newline ({LINE_MAX_BYTES} bytes)"
