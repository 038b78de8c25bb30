"""What the output of `lfs fid2path` means: a path is given to the FID it belongs to, or to none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_tools.fid_paths.fid2path import ProgramRun, is_fid, understand_lines, understand_nul, understand_single

A, B, C = "0x200000401:0x1:0x0", "0x200000401:0x2:0x0", "0x200000401:0x10:0x0"


def complaint(*fids: str) -> bytes:
    return b"".join(f"lfs fid2path: cannot find /m {fid}: No such file or directory\n".encode() for fid in fids)


def lines(*records: tuple[str, str]) -> bytes:
    return b"".join(f"{fid} {path}\n".encode() for fid, path in records)


@pytest.mark.parametrize("text", [A, "0xABC:0x0:0x0"])
def test_fids(text: str) -> None:
    assert is_fid(text)


@pytest.mark.parametrize(
    "text",
    ["", "-l", f"[{A}]", "0x1:0x2", "1:2:3", f"{A}\n", f"{A} {B}", "0x1:0x2:0x3:0x4", "0x11111111111111111:0x1:0x0"],
)
def test_nothing_but_a_fid_is_handed_to_a_command(text: str) -> None:
    assert not is_fid(text)


def test_records_with_a_nul_name_their_fids() -> None:
    run = ProgramRun(2, f"{A} /m/a\nb\0{C} /m/c c\0{B} /m/cut o".encode(), complaint(B))
    assert understand_nul([A, B, C], run) == {A: "/m/a\nb", B: None, C: "/m/c c"}


def test_brackets_around_a_fid_do_not_matter() -> None:
    assert understand_nul([A], ProgramRun(0, f"[{A}] /m/a\0".encode(), b"")) == {A: "/m/a"}


@pytest.mark.parametrize("stdout", [b"", b"usage: fid2path ...\n", f"{C} /m/c\0".encode(), b"\0 \0x\0\xff \0"])
def test_what_names_no_fid_is_no_answer(stdout: bytes) -> None:
    assert understand_nul([A, B], ProgramRun(4, stdout, b"lfs fid2path: unrecognized option '-0'\n")) == {}


def test_a_complaint_is_about_its_own_fid_only() -> None:
    assert understand_nul(["0x200000401:0x1:0x0"], ProgramRun(2, b"", complaint("0x200000401:0x1:0x0f"))) == {}


def test_a_name_that_is_no_utf8_shows_its_bytes() -> None:
    assert understand_nul([A], ProgramRun(0, f"{A} /m/".encode() + b"\xff\x80\0", b"")) == {A: "/m/\\xff\\x80"}


def test_lines_are_told_apart_where_each_fid_is_in_one_place() -> None:
    run = ProgramRun(2, lines((A, "/m/a"), (C, "/m/c c")), complaint(B))
    assert understand_lines([A, B, C], run) == {A: "/m/a", B: None, C: "/m/c c"}
    assert understand_lines([A, B], ProgramRun(2, b"", complaint(A, B))) == {A: None, B: None}


@pytest.mark.parametrize(
    "name",
    ["x\ny", f"x\n{B} /etc/passwd", f"x\n{C} /m/c", f"x\n{A} /m/a", "x\n", "\nx"],
)
@pytest.mark.parametrize("b_exists", [True, False])
def test_a_name_with_a_newline_makes_the_lines_no_answer(name: str, b_exists: bool) -> None:
    stdout = lines((A, f"/m/{name}"), *([(B, "/m/b")] if b_exists else []))
    assert understand_lines([A, B], ProgramRun(0 if b_exists else 2, stdout, b"" if b_exists else complaint(B))) == {}


def test_lines_that_were_cut_off_are_no_answer() -> None:
    assert understand_lines([A, B], ProgramRun(-9, lines((A, "/m/a")) + f"{B} /m".encode(), b"")) == {}
    for status in (-9, 1):
        assert understand_lines([A, B], ProgramRun(status, lines((A, f"/m/x\n{B} /etc/passwd")), b"")) == {}


def test_a_single_answer_is_a_path_whatever_it_holds() -> None:
    assert understand_single([A], ProgramRun(0, b"/m/x\ny\n", b"")) == {A: "/m/x\ny"}
    assert understand_single([A], ProgramRun(2, b"", complaint(A))) == {A: None}
    assert understand_single(
        [A], ProgramRun(1, b"", f"fid2path: error on FID {A}: Operation not permitted".encode())
    ) == {A: None}
    assert understand_single([A], ProgramRun(2, b"", b"cannot resolve mount point: No such file or directory")) == {}
    assert understand_single([A], ProgramRun(-9, b"/m/x\n", b"")) == {}


NAMES = st.lists(st.sampled_from(["x", "\n", " ", A, B, C, "/m/", "\x1b"]), min_size=1, max_size=6).map("".join)


@given(st.dictionaries(st.sampled_from([A, B, C]), NAMES))
def test_no_name_is_ever_given_to_another_fid(files: dict[str, str]) -> None:
    missing = [fid for fid in (A, B, C) if fid not in files]
    paths = {fid: f"/m/{name}" for fid, name in files.items()}
    status = 2 if missing else 0
    truth = {**paths, **dict.fromkeys(missing)}
    nul = b"".join(f"{fid} {path}\0".encode() for fid, path in paths.items())
    assert understand_nul([A, B, C], ProgramRun(status, nul, complaint(*missing))) == truth
    answers = understand_lines([A, B, C], ProgramRun(status, lines(*paths.items()), complaint(*missing)))
    assert answers in ({}, truth)
    assert answers == truth or any("\n" in name for name in files.values())
