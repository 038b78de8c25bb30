"""The paths of `hsm-stream-tail`, from a stand-in `lfs` of any release, and how long an event waits for its own."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.support.lustre import MOUNT, World
from tests.support.readings import MDT0
from tests.support.tail_paths import PATHS, PATIENT, fid, files, following
from tests.support.tails import Tails, read_line
from tests.support.waiting import eventually


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


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


def test_two_file_systems_may_have_the_same_fid(tails: Tails, world: World) -> None:
    world.put(fid(1), "a")
    tails.append(MDT0, fid=fid(1))
    tails.append("hsm:actions:oak-MDT0000", fid=fid(1))
    done = tails.run(
        "--run-once", "--mount", "elm=/lustre", "--mount", "oak=/oak", "--path-wait", "3600", **world.environment
    )
    assert sorted(files(done.stdout)) == ["/lustre/a", "/oak/a"]
