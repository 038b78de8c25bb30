"""The paths of `hsm-stream-tail` where `lfs` fails, hangs, is not there, or is left alone by a signal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.lustre import MOUNT, World
from tests.support.readings import MDT0, MDT1
from tests.support.tail_paths import PATHS, PATIENT, fid, files, following
from tests.support.tails import BANNER, Tails, read_line
from tests.support.waiting import DEADLINE_S, eventually


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


def test_who_may_not_ask_is_told_once_what_would_let_him(tails: Tails, world: World) -> None:
    world.set("errno", "1")
    tail = following(tails, *PATIENT, **world.library_environment)
    for n in range(1, 5):
        tails.append(fid=fid(n))
        assert files(read_line(tail)) == [f"[{fid(n)}]"]
    tail.send_signal(signal.SIGINT)
    _, err = tail.communicate(timeout=60)
    assert err.splitlines()[1:] == [
        "hsm-stream-tail: files of elm are shown by their FIDs: cannot find FID: Operation not permitted; "
        "run it as root, or mount the file system with user_fid2path"
    ]


def test_without_lfs_there_is_one_warning_and_fids(tails: Tails, tmp_path: Path) -> None:
    tails.append(fid=fid(1))
    tails.append(MDT1, fid=fid(2))
    done = tails.run("--run-once", *PATIENT, PATH=str(tmp_path))
    assert (done.returncode, sorted(files(done.stdout))) == (0, [f"[{fid(1)}]", f"[{fid(2)}]"])
    [warning] = done.stderr.splitlines()
    assert warning == (
        "hsm-stream-tail: files of elm are shown by their FIDs: there is neither liblustreapi nor the command lfs; "
        "install the Lustre client's tools, or give --no-paths"
    )


def test_a_file_system_that_is_not_mounted_is_said_once(tails: Tails, world: World) -> None:
    for n in range(1, 4):
        tails.append(fid=fid(n))
    tails.append("hsm:actions:pine-MDT0000", fid=fid(1), mdt="elm-MDT0000")
    world.put(fid(1), "of elm")
    done = tails.run("--run-once", "--mount", f"oak={MOUNT}", **world.environment)
    assert len(files(done.stdout)) == 4 and MOUNT not in done.stdout
    assert sorted(done.stderr.splitlines()) == [
        f"hsm-stream-tail: {fsname} is not mounted here: its files are shown by their FIDs (--mount, --no-paths)"
        for fsname in ("elm", "pine")
    ]
    assert world.calls == []


@pytest.mark.parametrize(
    ("fail", "complaint"),
    [
        (
            "13 lfs fid2path: cannot find /lustre 0x200000401:0x1:0x0: Permission denied",
            "cannot find /lustre FID: Permission denied; run it as root, or mount the file system with user_fid2path",
        ),
        (
            "2 lfs fid2path: cannot resolve mount point for '/lustre': \x1b[2J",
            r"resolve mount point for '/lustre': \x1b[2J",
        ),
        ("1", "exit status 1, and nothing said"),
    ],
)
def test_an_lfs_that_fails_is_said_once_and_left_alone(tails: Tails, world: World, fail: str, complaint: str) -> None:
    world.set("fail", fail)
    tail = following(tails, *PATIENT, **world.environment)
    for _ in range(3):
        tails.append(fid=fid(1))
        assert files(read_line(tail)) == [f"[{fid(1)}]"]
    calls = len(world.calls)
    tail.send_signal(signal.SIGINT)
    _, err = tail.communicate(timeout=DEADLINE_S)
    [_banner, warning] = err.splitlines()
    assert complaint in warning and warning.startswith("hsm-stream-tail: files of elm are shown by their FIDs: ")
    assert warning.isprintable() and calls <= 3


def test_an_mdt_that_does_not_answer_does_not_keep_the_others_from_theirs(tails: Tails, world: World) -> None:
    world.set("hang")
    world.put(fid(2), "of the other")
    tail = following(tails, *PATHS, **world.environment)
    tails.append(MDT0, fid=fid(1))
    assert files(read_line(tail)) == [f"[{fid(1)}]"]
    [hung] = eventually(world.running)
    world.unset("hang")
    eventually(lambda: not world.running())  # killed, although it ignores what can be ignored
    assert hung in world.pids
    assert tail.stderr is not None and tail.stderr.readline() == BANNER
    assert "gave no answer within 5 s; is an MDT down?" in tail.stderr.readline()

    def shows_the_other() -> bool:
        """On a busy machine its answer, too, may be late for some events."""
        tails.append(MDT1, fid=fid(2))
        return files(read_line(tail)) == [f"{MOUNT}/of the other"]

    eventually(shows_the_other)
    tails.append(MDT0, fid=fid(1))
    assert files(read_line(tail)) == [f"[{fid(1)}]"]
    assert world.calls[-1].endswith(fid(2)), "the one that hung is left alone"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("lfs", ["hang", "delay_s"])
def test_a_signal_ends_it_quietly_and_leaves_no_child(
    tails: Tails, world: World, how: signal.Signals, lfs: str
) -> None:
    world.set(lfs, "30")
    tails.append(fid=fid(1))
    tail = tails.start("--from-beginning", *PATIENT, **world.environment)
    [child] = eventually(world.running)
    assert os.getpgid(child) != os.getpgid(tail.pid), "Ctrl+C on a terminal would be for it, too"
    tail.send_signal(how)
    out, err = tail.communicate(timeout=DEADLINE_S)
    assert tail.returncode == (130 if how == signal.SIGINT else -how)
    assert (out, err) == ("", BANNER)
    eventually(lambda: not world.running())


def test_a_closed_pipe_ends_it_quietly_and_leaves_no_child(tails: Tails, world: World) -> None:
    world.set("delay_s", "300")
    tails.append(fid="?")
    tails.append(fid=fid(1))
    tail = tails.start("--from-beginning", *PATIENT, **world.environment)
    assert tail.stdout is not None and tail.stderr is not None
    assert files(read_line(tail)) == ["[?]"]
    eventually(world.running)
    tail.stdout.close()
    assert tail.wait(DEADLINE_S) == 141
    assert tail.stderr.read() == BANNER
    eventually(lambda: not world.running())


def test_an_lfs_that_vanishes_is_no_end(tails: Tails, world: World) -> None:
    world.put(fid(1), "before")
    tail = following(tails, *PATIENT, **world.environment)
    tails.append(fid=fid(1))
    assert files(read_line(tail)) == [f"{MOUNT}/before"]
    (world.folder / "bin" / "lfs").unlink()
    tails.append(fid=fid(2))
    assert files(read_line(tail)) == [f"[{fid(2)}]"]
    tail.send_signal(signal.SIGINT)
    _, err = tail.communicate(timeout=DEADLINE_S)
    assert err.splitlines()[1:] == [
        "hsm-stream-tail: files of elm are shown by their FIDs: lfs cannot be run any more: No such file or directory"
    ]
