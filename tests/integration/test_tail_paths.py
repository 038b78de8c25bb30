"""The paths of `hsm-stream-tail`, from a stand-in `lfs` that is slow, fails, hangs, or is not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lustre import MOUNT, World
from tests.support.readings import MDT0, MDT1
from tests.support.servers import RedisServer, waiting_clients
from tests.support.tails import BANNER, Tails, read_line, tails_on
from tests.support.waiting import DEADLINE_S, eventually

PATHS = ["--mount", f"elm={MOUNT}"]
# Long enough that only what is known, or known to be unknown, ends the waiting.
PATIENT = [*PATHS, "--path-wait", "3600"]


@pytest.fixture
def tails(redis_server: RedisServer, redis_db: int, tmp_path: Path) -> Iterator[Tails]:
    with tails_on(redis_server, redis_db, tmp_path) as tails:
        yield tails


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


def fid(n: int) -> str:
    return f"0x200000401:{n:#x}:0x0"


def files(output: str) -> list[str]:
    """What is shown between the arrow and the id."""
    return [line.partition(" -> ")[2].rpartition(" (id: ")[0] for line in output.splitlines()]


def following(tails: Tails, *options: str, **environment: str) -> subprocess.Popen[str]:
    """A tail that has begun to wait for events, of which it shows none."""
    for stream in (MDT0, MDT1):
        tails.append(stream, status="OLD")
    tail = tails.start(*options, **environment)
    eventually(lambda: waiting_clients(tails.client))
    return tail


def test_files_are_shown_by_their_paths_in_the_order_of_the_events(tails: Tails, world: World) -> None:
    for n in range(1, 251):
        if n % 10:
            world.put(fid(n), f"project/{n}.dat")
        tails.append(fid=fid(n))
    done = tails.run("--run-once", *PATIENT, **world.environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert files(done.stdout) == [f"{MOUNT}/project/{n}.dat" if n % 10 else f"[{fid(n)}]" for n in range(1, 251)]
    assert len(world.calls) == 3, "they are asked for in batches"


@pytest.mark.parametrize("lacks", ["", "-0", "-0 -f"])
def test_no_release_of_lfs_gives_a_path_to_another_file(tails: Tails, world: World, lacks: str) -> None:
    world.set("lacks", lacks)
    world.put(fid(1), "hard link 1", "hard link 2", "hard link 3")
    world.put(fid(2), f"x\n{fid(4)} /etc/passwd\n{fid(1)} /etc/shadow")
    world.put(fid(3), "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202egpj")
    world.put(fid(5), b"\xff\xfe", b"second")
    for n in range(1, 6):
        tails.append(fid=fid(n))
    done = tails.run("--run-once", *PATIENT, **world.environment)
    assert files(done.stdout) == [
        f"{MOUNT}/hard link 1",
        f"{MOUNT}/x\\x0a{fid(4)} /etc/passwd\\x0a{fid(1)} /etc/shadow",
        f"{MOUNT}/\\x1b]0;owned\\x07\\x1b[2J\\x0d\\x9b31m\\u202egpj",
        f"[{fid(4)}]",
        f"{MOUNT}/\\xff\\xfe",
    ]
    assert done.stdout.replace("\n", "").isprintable() and done.stderr == ""


def test_an_older_lfs_is_still_asked_in_batches_where_names_allow_it(tails: Tails, world: World) -> None:
    world.set("lacks", "-0")
    for n in range(1, 4):
        world.put(fid(n), f"{n}")
        tails.append(fid=fid(n))
    done = tails.run("--run-once", *PATIENT, **world.environment)
    assert files(done.stdout) == [f"{MOUNT}/1", f"{MOUNT}/2", f"{MOUNT}/3"]
    assert [call.split()[1] for call in world.calls] == ["-f", "-f"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="the stand-in liblustreapi needs a C compiler")
def test_liblustreapi_is_preferred_where_it_is(tails: Tails, world: World) -> None:
    environment = world.library_environment
    world.put(fid(1), f"x\n{fid(2)} /etc/passwd")
    world.put(fid(3), "/c")
    for n in range(1, 4):
        tails.append(fid=fid(n))
    done = tails.run("--run-once", *PATIENT, **environment)
    assert files(done.stdout) == [f"{MOUNT}/x\\x0a{fid(2)} /etc/passwd", f"[{fid(2)}]", f"{MOUNT}/c"]
    assert (done.stderr, world.calls) == ("", [])
    world.set("hang")
    done = tails.run("--run-once", *PATHS, **environment)
    assert files(done.stdout)[0] == f"[{fid(1)}]"
    assert done.stderr == "", "it waited for the library to give no answer"


@pytest.mark.parametrize("has_lfs", [True, False])
def test_a_path_that_is_too_long_for_liblustreapi_is_asked_of_lfs(tails: Tails, world: World, *, has_lfs: bool) -> None:
    environment = world.library_environment
    if not has_lfs:
        (world.folder / "bin" / "lfs").unlink()
    lengths = {1: 10, 2: 4094, 3: 4095, 4: 4096, 5: 9000}
    for n, length in lengths.items():
        world.put(fid(n), "/".join(["d" * 99] * 100)[:length])
        tails.append(fid=fid(n))
    done = tails.run("--run-once", *PATIENT, **environment)
    found = {n: f"{MOUNT}/{'/'.join(['d' * 99] * 100)[:length]}" for n, length in lengths.items()}
    if not has_lfs:
        found |= {n: f"[{fid(n)}]" for n in (3, 4, 5)}
    assert files(done.stdout) == [*found.values()]
    assert done.stderr == ""


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


def test_json_and_templates_have_the_path(tails: Tails, world: World) -> None:
    world.put(fid(1), "a\x1bb\n\x7f")
    tails.append(fid=fid(1))
    [line] = tails.run("--run-once", "--json", *PATIENT, **world.environment).stdout.splitlines()
    assert line.isprintable() and json.loads(line)["path"] == f"{MOUNT}/a\x1bb\n\x7f"
    done = tails.run("--run-once", "--format", "{path}", *PATIENT, **world.environment)
    assert done.stdout == f"{MOUNT}/a\\x1bb\\x0a\\x7f\n"


def test_an_event_is_not_held_back_longer_than_it_may(tails: Tails, world: World) -> None:
    world.set("held")
    world.put(fid(1), "late")
    tail = following(tails, *PATHS, "--path-wait", "0.3", **world.environment)
    appended_s = time.monotonic()
    tails.append(fid=fid(1))
    assert files(read_line(tail)) == [f"[{fid(1)}]"]
    assert time.monotonic() - appended_s > 0.25
    world.unset("held")

    def is_known() -> bool:
        tails.append(fid=fid(1))
        return files(read_line(tail)) == [f"{MOUNT}/late"]

    eventually(is_known)
    assert len(world.calls) == 1


def test_a_path_is_shown_as_soon_as_it_is_known(tails: Tails, world: World) -> None:
    world.set("delay_s", "0.5")
    world.put(fid(1), "soon")
    tail = following(tails, *PATIENT, **world.environment)
    for n in (1, 2):
        tails.append(fid=fid(n))
    assert files(read_line(tail)) == [f"{MOUNT}/soon"]
    assert files(read_line(tail)) == [f"[{fid(2)}]"]


def test_what_was_removed_is_asked_for_once(tails: Tails, world: World) -> None:
    tail = following(tails, *PATIENT, **world.environment)
    for _ in range(3):
        tails.append(fid=fid(1))
        assert files(read_line(tail)) == [f"[{fid(1)}]"]
    assert len(world.calls) == 1


def test_a_file_system_is_named_as_in_earlier_releases(tails: Tails, world: World, tmp_path: Path) -> None:
    world.put(fid(1), "a")
    tails.append(fid=fid(1))
    done = tails.run("--run-once", "--mountpoint", f"elm={MOUNT}", "--path-wait", "60", **world.environment)
    assert (files(done.stdout), done.stderr) == ([f"{MOUNT}/a"], "")
    (tmp_path / "tail.yaml").write_text(f"mountpoint: elm={MOUNT}\n")
    done = tails.run("--run-once", "-c", str(tmp_path / "tail.yaml"), "--path-wait", "60", **world.environment)
    assert (files(done.stdout), done.stderr) == ([f"{MOUNT}/a"], "")
    (tmp_path / "tail.yaml").write_text("mountpoint: /lustre\n")  # not mounted on this machine
    done = tails.run("--run-once", "-c", str(tmp_path / "tail.yaml"), **world.environment)
    assert (done.returncode, files(done.stdout)) == (0, [f"[{fid(1)}]"])
    assert done.stderr.splitlines()[0].startswith(
        "hsm-stream-tail: warning: mountpoint in the configuration is not used"
    )
    assert tails.run("--run-once", "--no-paths", "-c", str(tmp_path / "tail.yaml")).stderr == ""


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


def test_a_path_filter_waits_for_the_path_and_says_what_it_could_not_tell(tails: Tails, world: World) -> None:
    world.set("delay_s", "0.3")
    for n, name in enumerate(["project/a", "scratch/b", "project/deep/c,d"], start=1):
        world.put(fid(n), name)
    for n in range(1, 5):
        tails.append(fid=fid(n))
    done = tails.run("--run-once", "--path", f"{MOUNT}/project/*,d", "--path", "*/a", *PATIENT, **world.environment)
    assert files(done.stdout) == [f"{MOUNT}/project/a", f"{MOUNT}/project/deep/c,d"]
    assert done.stderr == (
        "hsm-stream-tail: --path left out events whose paths are not known (in time: see --path-wait): 1\n"
    )


def test_paths_are_only_asked_for_what_is_shown(tails: Tails, world: World) -> None:
    tails.append(fid=fid(1), status="WAITING")
    tails.append(fid=fid(2), status="FAILED")
    tails.append(fid="-rf / $(reboot)", status="FAILED")
    tails.run("--run-once", "--failed", *PATIENT, **world.environment)
    assert world.calls == [f"fid2path -f -0 --link 0 {MOUNT} {fid(2)}"]


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
    world.set("delay_s", "30")
    tails.append(fid="?")
    tail = tails.start("--from-beginning", *PATHS, **world.environment)
    assert tail.stdout is not None and tail.stderr is not None
    assert files(read_line(tail)) == ["[?]"]
    tail.stdout.close()
    tails.append(fid=fid(1))
    assert tail.wait(DEADLINE_S) == 141
    assert tail.stderr.read() == BANNER
    assert world.pids
    eventually(lambda: not world.running())


def test_what_ends_waits_for_its_last_paths(tails: Tails, world: World) -> None:
    world.set("delay_s", "0.5")
    world.put(fid(1), "last")
    tails.append(fid=fid(1))
    done = tails.run("-n1", "--no-follow", *PATIENT, **world.environment)
    assert files(done.stdout) == [f"{MOUNT}/last"]
    eventually(lambda: not world.running())


def test_paths_never_throttle_the_tail(tails: Tails, world: World) -> None:
    world.set("delay_s", "1")  # 100 paths a second: all of them take minutes
    tail = following(tails, *PATHS, **world.environment)
    pipe = tails.client.pipeline(transaction=False)
    count = 30_000
    for n in range(count):
        pipe.xadd(MDT0, {"data": b'{"event_type":"NEW","status":"S%d","fid":"0x1:%#x:0x0"}' % (n, n + 1)})
    pipe.execute()
    assert [read_line(tail).split()[4] for _ in range(count)] == [f"S{n}" for n in range(count)]
    assert len(world.calls) < count / 100 / 2, "it waited for the paths"


def test_the_paths_of_a_long_history_are_all_shown_to_who_has_the_time(tails: Tails, world: World) -> None:
    count = 6000
    pipe = tails.client.pipeline(transaction=False)
    for n in range(1, count + 1):
        pipe.xadd(MDT0, {"data": b'{"event_type":"NEW","fid":"0x1:%#x:0x0"}' % n})
        world.put(f"0x1:{n:#x}:0x0", str(n))
    pipe.execute()
    done = tails.run("--run-once", *PATIENT, **world.environment)
    assert files(done.stdout) == [f"{MOUNT}/{n}" for n in range(1, count + 1)]


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


def test_two_file_systems_may_have_the_same_fid(tails: Tails, world: World) -> None:
    world.put(fid(1), "a")
    tails.append(MDT0, fid=fid(1))
    tails.append("hsm:actions:oak-MDT0000", fid=fid(1))
    done = tails.run(
        "--run-once", "--mount", "elm=/lustre", "--mount", "oak=/oak", "--path-wait", "3600", **world.environment
    )
    assert sorted(files(done.stdout)) == ["/lustre/a", "/oak/a"]
