"""What discovery sees, and what it decides: no supervisord, no Redis."""

from __future__ import annotations

import os
import shlex
import sqlite3
from pathlib import Path

import pytest
import supervisor.xmlrpc

from hsm_shipper.errors import StateError
from hsm_shipper.lustre.mdts import find_mdts
from hsm_shipper.state.forget import forget, maintenance_lock_path, stored_mdts
from hsm_shipper.state.locks import FileLock, worker_lock_path
from hsm_shipper.state.poll_status import state_files
from hsm_shipper.supervision import supervisord as ours
from hsm_shipper.supervision.discovery_plan import Plan, RestartBackoff, Seen, decide, is_settled
from hsm_shipper.supervision.supervisord import Program, ProgramFiles, worker_program

RUNNING = Program("RUNNING", 4711, 100)
FATAL = Program("FATAL", 0, 0)


def seen(
    wanted: str = "", running: str = "", written: str | None = None, stored: str = "", *, complete: bool = True
) -> Seen:
    """One letter for each MDT; programs are all as wanted, and written for those running unless told."""
    return Seen(
        wanted=dict.fromkeys(wanted, "program"),
        complete=complete,
        written=dict.fromkeys(running if written is None else written, "program"),
        running=dict.fromkeys(running, RUNNING),
        stored=frozenset(stored),
    )


NOTHING = Plan((), (), (), ())


@pytest.mark.parametrize(
    ("sight", "plan"),
    [
        (seen(), NOTHING),
        (seen("ab", "ab", stored="ab"), NOTHING),
        (seen("ab", "a"), NOTHING._replace(add=("b",))),
        (seen("a", "ab", stored="ab"), NOTHING._replace(remove=("b",))),
        # Only once its program is gone is an MDT forgotten.
        (seen("a", "a", stored="ab"), NOTHING._replace(forget=("b",))),
        (seen("a", "", stored="a"), NOTHING._replace(add=("a",))),
        # Begun, but not finished: written without being added, or being removed, perhaps by an earlier discovery.
        (seen("a", "", written="a"), NOTHING._replace(add=("a",))),
        (seen("a", "ab", written="a"), NOTHING._replace(remove=("b",))),
        # It came back while its worker was stopping.
        (seen("ab", "ab", written="a"), NOTHING._replace(remove=("b",))),
        # Some folder could not be read: arrivals are believed, departures are not.
        (seen("c", "ab", stored="abd", complete=False), NOTHING._replace(add=("c",))),
        (seen("", "a", written="", complete=False), NOTHING._replace(remove=("a",))),
    ],
)
def test_decide(sight: Seen, plan: Plan) -> None:
    assert decide(sight, due=frozenset()) == plan


def test_a_program_that_is_not_the_wanted_one_is_replaced() -> None:
    moved = seen("a", "a")._replace(written={"a": "with another path"})
    assert decide(moved, frozenset()) == NOTHING._replace(remove=("a",))
    assert decide(moved._replace(complete=False), frozenset()) == NOTHING._replace(remove=("a",))


def test_only_wanted_programs_start_again() -> None:
    sight = seen("a", "ab")
    assert decide(sight, frozenset("ab")) == NOTHING._replace(remove=("b",), restart=("a",))


def test_settled_means_that_nothing_is_about_to_change() -> None:
    assert is_settled({})
    assert is_settled({"a": RUNNING, "b": Program("STOPPED", 0, 0)})
    for state in ("STARTING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN"):
        assert not is_settled({"a": RUNNING, "b": Program(state, 0, 0)})


def test_restarts_wait_ever_longer_up_to_a_minute() -> None:
    backoff = RestartBackoff()
    now, delays = 0.0, []
    for _ in range(9):
        assert backoff.due({"a": FATAL}, now) == frozenset()
        seen_at = now
        while not backoff.due({"a": FATAL}, now):
            now += 0.5
        delays.append(now - seen_at)
        now += 1.0
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_worker_that_ran_for_a_minute_is_forgiven() -> None:
    backoff = RestartBackoff()
    for now in (0.0, 1.0, 2.0, 4.0):
        backoff.due({"a": FATAL}, now)
    backoff.due({"a": RUNNING}, 10.0)
    backoff.due({"a": RUNNING}, 69.0)
    assert backoff.due({"a": FATAL}, 69.5) == frozenset()
    assert backoff.due({"a": FATAL}, 71.5) == frozenset()  # not forgiven: 4 s this time
    assert backoff.due({"a": FATAL}, 73.5) == {"a"}
    backoff.due({"a": RUNNING}, 100.0)
    backoff.due({"a": RUNNING}, 160.0)
    assert backoff.due({"a": FATAL}, 161.0) == frozenset()
    assert backoff.due({"a": FATAL}, 162.0) == {"a"}


def test_backoff_forgets_with_the_program() -> None:
    backoff = RestartBackoff()
    for now in (0.0, 1.0, 2.0, 4.0):
        backoff.due({"a": FATAL}, now)
    backoff.due({}, 5.0)
    backoff.due({"a": FATAL}, 6.0)
    assert backoff.due({"a": FATAL}, 7.0) == {"a"}


def make_mdt(root: Path, name: str) -> Path:
    actions = root / name / "hsm/actions"
    actions.parent.mkdir(parents=True)
    actions.touch()
    return actions


def test_mdts_are_found_by_their_folders(tmp_path: Path) -> None:
    a = make_mdt(tmp_path / "mdt", "elm-MDT0000")
    b = make_mdt(tmp_path / "mdt", "elm-MDT000f")
    make_mdt(tmp_path / "mdt", "elm-OST0000")
    (tmp_path / "mdt/elm-MDT0002").mkdir()
    (tmp_path / "mdt/num_refs").touch()
    present = find_mdts(f"{tmp_path}/mdt/*-MDT????/hsm/actions")
    assert present == ({"elm-MDT0000": a, "elm-MDT000f": b}, (), ())


def test_a_path_without_pattern_is_found_too(tmp_path: Path) -> None:
    actions = make_mdt(tmp_path, "elm-MDT0000")
    assert find_mdts(str(actions)).mdts == {"elm-MDT0000": actions}


def test_names_that_cannot_be_used_are_remarked(tmp_path: Path) -> None:
    for name in ("elm-MDTwxyz", "elm MDT0000-MDT0000", "el\nm-MDT0000", "el:m-MDT0000", ".hidden-MDT0000"):
        make_mdt(tmp_path, name)
    present = find_mdts(f"{tmp_path}/*-MDT????/hsm/actions")
    assert present.mdts == {}
    assert len(present.remarks) == 4
    assert all(remark.isprintable() for remark in present.remarks)


def test_of_two_paths_with_one_name_the_first_is_used(tmp_path: Path) -> None:
    first = make_mdt(tmp_path / "a", "elm-MDT0000")
    second = make_mdt(tmp_path / "b", "elm-MDT0000")
    present = find_mdts(f"{tmp_path}/*/*-MDT????/hsm/actions")
    assert present.mdts == {"elm-MDT0000": first}
    assert str(first) in present.remarks[0] and str(second) in present.remarks[0]


def test_a_folder_that_is_not_there_is_an_absence(tmp_path: Path) -> None:
    assert find_mdts(f"{tmp_path}/none/*-MDT????/hsm/actions") == ({}, (), ())
    (tmp_path / "file").touch()
    assert find_mdts(f"{tmp_path}/file/*-MDT????/hsm/actions") == ({}, (), ())


@pytest.mark.parametrize("pattern", ["mdt/*-MDT????/hsm/actions", "mdt/elm-MDT0000/hsm/actions"])
def test_a_folder_that_cannot_be_read_is_no_absence(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "mdt").symlink_to(tmp_path / "mdt")  # ELOOP, for root as well
    present = find_mdts(f"{tmp_path}/{pattern}")
    assert present.mdts == {}
    assert "Too many levels of symbolic links" in present.unreadable[0]


def test_one_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    actions = make_mdt(tmp_path, "elm-MDT0000")
    (tmp_path / "elm-MDT0001").symlink_to("elm-MDT0001")
    present = find_mdts(f"{tmp_path}/*-MDT????/hsm/actions")
    assert present.mdts == {"elm-MDT0000": actions}
    assert len(present.unreadable) == 1


def make_state(folder: Path, mdt: str) -> list[Path]:
    files = [folder / f"{mdt}.sqlite3{suffix}" for suffix in ("", "-wal", "-shm")]
    for file in files:
        file.touch()
    return files


def test_forgetting_removes_the_state_and_leaves_the_locks(tmp_path: Path) -> None:
    files = make_state(tmp_path, "elm-MDT0000")
    others = make_state(tmp_path, "elm-MDT0001")
    assert stored_mdts(tmp_path) == {"elm-MDT0000", "elm-MDT0001"}
    assert forget(tmp_path, "elm-MDT0000")
    assert not any(file.exists() for file in files)
    assert all(file.exists() for file in others)
    assert worker_lock_path(tmp_path, "elm-MDT0000").exists()
    assert forget(tmp_path, "elm-MDT0000")


def test_a_state_dir_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert state_files(folder) == {}
    folder.symlink_to(folder)  # ELOOP, for root as well
    with pytest.raises(StateError, match=r"cannot look into state_dir .*Too many levels of symbolic links; run this"):
        state_files(folder)
    assert stored_mdts(folder) == frozenset()  # nothing is forgotten for it


@pytest.mark.parametrize("lock_path", [worker_lock_path, maintenance_lock_path])
def test_nothing_is_forgotten_while_somebody_works_on_it(tmp_path: Path, lock_path: object) -> None:
    files = make_state(tmp_path, "elm-MDT0000")
    assert callable(lock_path)
    with FileLock(lock_path(tmp_path, "elm-MDT0000"), "this test"):
        assert not forget(tmp_path, "elm-MDT0000")
    assert all(file.exists() for file in files)
    assert forget(tmp_path, "elm-MDT0000")


def test_a_real_state_file_goes_with_its_log(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "elm-MDT0000.sqlite3")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (a)")
    database.commit()
    assert len(list(tmp_path.iterdir())) == 3
    assert forget(tmp_path, "elm-MDT0000")
    database.close()
    assert not list(tmp_path.glob("*sqlite3*"))


def test_a_lock_whose_file_was_unlinked_keeps_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    first = FileLock(path, "first")
    path.unlink()
    second = FileLock(path, "second")
    assert path.stat().st_ino == os.fstat(second.fd).st_ino
    first.release()
    second.release()


def test_program_files(tmp_path: Path) -> None:
    files = ProgramFiles(tmp_path / "run")
    files.empty()
    program = worker_program("elm-MDT0000", Path("/a%b/it's/elm-MDT0000/hsm/actions"))
    files.write({"elm-MDT0000": program, "el.m-MDT0001": program})
    assert files.written() == {"elm-MDT0000": program, "el.m-MDT0001": program}
    (files.folder / "mdt-elm-MDT0000.conf").write_bytes(b"\xff")
    assert files.written() == {"elm-MDT0000": "\ufffd", "el.m-MDT0001": program}
    files.remove("elm-MDT0000")
    files.remove("elm-MDT0000")
    assert files.written().keys() == {"el.m-MDT0001"}
    (files.folder / "stale.conf").write_text("broken")
    files.empty()
    assert files.written() == {}
    assert [path.name for path in files.folder.iterdir()] == ["README.conf"]


def test_a_worker_program_survives_supervisords_expansion() -> None:
    program = worker_program("elm-MDT0000", Path("/a%b/it's/elm-MDT0000/hsm/actions"))
    (command,) = [line for line in program.splitlines() if line.startswith("command=")]
    expanded = command.removeprefix("command=") % {"ENV_SHIPPER_RUN_DIR": "/run/x"}
    words = shlex.split(expanded)
    assert words[1:] == [
        *("-P", "-m", "hsm_shipper.worker.main", "--mdt", "elm-MDT0000"),
        *("--actions", "/a%b/it's/elm-MDT0000/hsm/actions", "--config", "/run/x/config.json"),
    ]


def test_our_fault_numbers_are_supervisors() -> None:
    for name in ("SHUTDOWN_STATE", "BAD_NAME", "ALREADY_STARTED", "ALREADY_ADDED", "STILL_RUNNING"):
        assert getattr(ours, name) == getattr(supervisor.xmlrpc.Faults, name)
