"""The kernel's lines: what real ones say, and what is not taken for one."""

from __future__ import annotations

import re
import string
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.contract import kernel_line
from hsm_shipper.contract.kernel_line import pack_place, parse_line, readable_place, unpack_place
from tests.support.core import FIXTURES, line

LISTINGS = sorted(FIXTURES.glob("*/*.txt"))
HOSTILE = {
    "empty": b"",
    "only NULs": b"\0" * 240,
    "70 kB of x": b"x" * 70_000,
    "a blank first": b" " + line(),
    "something glued on": line() + b"x",
    "a NUL in the action": line().replace(b"ARCHIVE", b"ARC\0HIVE"),
    "a blank in the action": line().replace(b"ARCHIVE", b"ARC HIVE"),
    "UTF-8 in the action": line().replace(b"ARCHIVE", b"ARCH\xc3\x8fVE"),
    "invalid UTF-8 in the status": line().replace(b"WAITING", b"WAIT\xffNG"),
    "an action of 70 kB": line().replace(b"ARCHIVE", b"A" * 70_000),
    "no status word": line().replace(b"status=WAITING", b"status="),
    "no action": line().replace(b"action=ARCHIVE ", b""),
    "half a place": line().replace(b"idx=1/1]", b"idx=1]"),
    "a CAT of two signs": line().replace(b"idx=1/1]", b"idx=--1/1]"),
    "a CAT with a plus": line().replace(b"idx=1/1]", b"idx=+1/1]"),
    "half a FID": line().replace(b"fid=[0x200000401:0x1:0x0]", b"fid=[0x200000401:0x1]", 1),
}

U32 = st.integers(0, 0xFFFF_FFFF)
U64 = st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
WORD = st.text(string.ascii_uppercase + "_", min_size=1, max_size=20)


def test_there_are_listings_of_every_format_that_lustre_has_printed() -> None:
    assert {path.parent.name for path in LISTINGS} >= {"lustre-2.5.0", "lustre-2.8", "lustre-2.15", "lustre-2.17.57"}


@pytest.mark.parametrize("path", LISTINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_real_line_is_understood_field_by_field(path: Path) -> None:
    for data in path.read_bytes().splitlines():
        record = parse_line(data)
        assert record is not None, data
        words = dict(word.split("=", 1) for word in data.decode().replace("lrh=[", "").split())
        cat, rec = words["idx"].rstrip("]").split("/")
        assert unpack_place(record.place) == (int(cat) % 2**32, int(rec) % 2**32)
        assert record.fid == words["fid"].strip("[]")
        assert record.cookie == words["compound/cookie"].split("/")[1]
        assert (record.action, record.status) == (words["action"], words["status"])
        assert readable_place(data) == record.place


def test_the_fid_is_the_file_and_not_the_volatile_one_that_a_restore_fills() -> None:
    data = line(3).replace(b"dfid=[0x200000401:0x3:0x0]", b"dfid=[0x200000999:0x9:0x0]")
    record = parse_line(data)
    assert record is not None
    assert (record.fid, record.action_key) == ("0x200000401:0x3:0x0", "0x200000401:0x3:0x0:ARCHIVE")


def test_an_archive_id_may_be_negative() -> None:
    data = line(archive_id=4_000_000_000)
    assert b"archive#=-294967296 " in data
    assert parse_line(data) is not None


@pytest.mark.parametrize("word", ["UNKNOWN", "MIGRATE", "pause-2", "~"])
def test_words_that_no_lustre_prints_yet_are_passed_on(word: str) -> None:
    record = parse_line(line(status=word, action=word))
    assert record is not None
    assert (record.action, record.status) == (word, word)


@pytest.mark.parametrize("more", [b" ", b" mtime=0x5", b" owner=\xff\xfe errno=-5", b" note=\0", b" x" * 35_000])
def test_fields_added_at_the_end_are_passed_over(more: bytes) -> None:
    assert parse_line(line(7) + more) == parse_line(line(7))


def test_no_torn_line_is_taken_for_a_whole_one() -> None:
    data = line(12, "SUCCEED").replace(b"data=[]", b"data=[7461673D6D]")
    assert parse_line(data) is not None
    assert [data[:end] for end in range(len(data)) if parse_line(data[:end]) is not None] == []


def test_no_line_without_its_beginning_is_taken_for_a_whole_one() -> None:
    data = line(12)
    assert [data[begin:] for begin in range(1, len(data)) if parse_line(data[begin:]) is not None] == []


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_is_not_understood(data: bytes) -> None:
    assert parse_line(data) is None


@pytest.mark.parametrize(
    ("old", "new", "understood"),
    [
        (b"idx=1/1]", b"idx=4294967295/4294967295]", True),
        (b"idx=1/1]", b"idx=4294967296/1]", False),
        (b"idx=1/1]", b"idx=1/4294967296]", False),
        (b"idx=1/1]", b"idx=-2147483648/-1]", True),
        (b"idx=1/1]", b"idx=-2147483649/1]", False),
        (b"idx=1/1]", b"idx=1/-4294967296]", False),
        (b"idx=1/1]", b"idx=1/" + b"9" * 5000 + b"]", False),
        (b"/0x6b020001 ", b"/0xffffffffffffffff ", True),
        (b"/0x6b020001 ", b"/0x1ffffffffffffffff ", False),
        (b"archive#=1 ", b"archive#=99999999999 ", False),
        (b"flags=0x0", b"flags=0xffffffffffffffff", True),
    ],
    ids=count(),
)
def test_numbers_are_understood_up_to_what_the_kernel_has_room_for(old: bytes, new: bytes, understood: bool) -> None:
    assert old in line()
    assert (parse_line(line().replace(old, new)) is not None) is understood


def test_a_cookie_keeps_all_its_digits() -> None:
    record = parse_line(line(cookie=0xFEDC_BA98_7654_3211))
    assert record is not None
    assert record.cookie == "0xfedcba9876543211"


@given(U32, U32, U64, WORD, WORD)
def test_a_line_says_what_was_put_into_it(cat: int, rec: int, cookie: int, action: str, status: str) -> None:
    record = parse_line(line(rec, status, cat=cat, action=action, cookie=cookie, fid="0x2:0x3:0x4"))
    assert record is not None
    assert unpack_place(record.place) == (cat, rec)
    assert (record.fid, record.action, record.status) == ("0x2:0x3:0x4", action, status)
    assert int(record.cookie, 16) == cookie


@given(st.integers(-0x8000_0000, -1), U32)
def test_a_number_that_was_printed_with_a_sign_has_none(cat: int, rec: int) -> None:
    signed, unsigned = line(rec, cat=cat, fid="0x2:0x3:0x4"), line(rec, cat=cat + 2**32, fid="0x2:0x3:0x4")
    assert parse_line(signed) == parse_line(unsigned) is not None
    assert readable_place(signed) == readable_place(unsigned) == pack_place(cat + 2**32, rec)


@given(st.binary())
def test_no_bytes_make_the_parser_raise(data: bytes) -> None:
    assert parse_line(data) is None
    readable_place(data)


DAMAGED = st.builds(
    lambda at, length, damage: line(12)[:at] + damage + line(12)[at + length :],
    st.integers(0, len(line(12))),
    st.integers(0, 12),
    st.text("0123456789abcdefx-/:[]= \n\xffWAITING", max_size=40).map(lambda text: text.encode("latin-1")),
)


@given(st.one_of(DAMAGED, st.sampled_from([*HOSTILE.values(), *(path.read_bytes() for path in LISTINGS)])))
def test_repetitions_that_give_nothing_back_understand_what_others_would(data: bytes) -> None:
    giving_back = re.compile(kernel_line._LINE.pattern.replace("}+", "}").replace("*+", "*"), re.DOTALL)
    for one in data.split(b"\n"):
        text = one.decode("latin-1")
        found, expected = kernel_line._LINE.fullmatch(text), giving_back.fullmatch(text)
        assert (found and found.groups()) == (expected and expected.groups())


@given(st.integers(0, len(line()) - 1), st.binary(max_size=3))
def test_a_damaged_line_is_read_in_its_own_place_or_not_at_all(at: int, damage: bytes) -> None:
    data = line()[:at] + damage + line()[at + 1 :]
    record = parse_line(data)
    if record is not None:
        assert record.place == readable_place(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"lrh=[type=10680000 len=136 idx=3/17] something=new", (3, 17)),
        (line(5)[:60], (1, 5)),
        (b"\xff\0 idx=3/17] \xff", (3, 17)),
        (b"idx=0/0]", (0, 0)),
        (b"idx=-1499225008/0] something=new", (2_795_742_288, 0)),
        (b"idx=-1/-2147483648]", (0xFFFF_FFFF, 0x8000_0000)),
        (b"idx=-2147483649/0]", None),
        (b"idx=3/17", None),
        (b"maxidx=3/17]", None),
        (b"idx=4294967296/1]", None),
        (b"idx=1/4294967296]", None),
        (b"idx=12345678901/1]", None),
        (b"", None),
    ],
    ids=count(),
)
def test_the_place_of_a_line_that_is_not_understood_is_read_where_it_can_be(
    data: bytes, expected: tuple[int, int] | None
) -> None:
    found = readable_place(data)
    assert (None if found is None else unpack_place(found)) == expected


@given(U32, U32)
def test_a_packed_place_is_unpacked_again(cat: int, rec: int) -> None:
    assert unpack_place(pack_place(cat, rec)) == (cat, rec)


@given(st.tuples(U32, U32), st.tuples(U32, U32))
def test_packed_places_sort_as_the_kernel_sorts_its_listing(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (pack_place(*one) < pack_place(*other)) is (one < other)
