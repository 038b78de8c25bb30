"""The installed command under real supervisord: MDTs that come and go, processes that die, stopping, detaching."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from hsm_shipper.state.locks import FileLock, worker_lock_path
from hsm_shipper.supervision.supervisord import DISCOVERY
from tests.support.shipper import MetadataServer, action_line
from tests.support.waiting import eventually


def test_arrival_and_departure(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1), action_line(2))
    server.start()
    server.wait_running("elm-MDT0000")
    server.wait_events("elm-MDT0000", 2)

    server.add_mdt("elm-MDT0001", action_line(3))
    server.wait_running("elm-MDT0000", "elm-MDT0001")
    server.wait_events("elm-MDT0001", 1)

    server.remove_mdt("elm-MDT0000")
    state = server.state_dir / "elm-MDT0000.sqlite3"
    eventually(lambda: not state.exists())
    server.wait_running("elm-MDT0001")
    assert [path.name for path in server.state_dir.glob("elm-MDT0000*sqlite3*")] == []
    assert worker_lock_path(server.state_dir, "elm-MDT0000").exists()
    assert not (server.run_dir / "mdt.d/mdt-elm-MDT0000.conf").exists()
    assert [event["event_type"] for event in server.events("elm-MDT0000")] == ["NEW", "NEW"]

    # And back, changed meanwhile: only the change is shipped.
    server.add_mdt("elm-MDT0000", action_line(1), action_line(2, "STARTED"))
    server.wait_running("elm-MDT0000", "elm-MDT0001")
    assert server.wait_events("elm-MDT0000", 3)[-1]["event_type"] == "UPDATE"


def test_workers_of_mdts_that_are_here_wait_neither_for_discovery_nor_for_their_turn(server: MetadataServer) -> None:
    server.configure(poll_interval=3600)
    server.add_mdt("elm-MDT0000", action_line(1))
    server.start()
    server.wait_events("elm-MDT0000", 1)
    server.wait_all_running()
    log = server.log.read_text()
    assert log.index("spawned: 'mdt-elm-MDT0000'") < log.index("spawned: 'discovery'")
    assert "worker started" not in log, "discovery found nothing to do"


def test_state_left_behind_by_an_mdt_not_here_is_forgotten(server: MetadataServer) -> None:
    server.state_dir.mkdir()
    for name in ("old-MDT0001.sqlite3", "old-MDT0001.sqlite3-wal", "old-MDT0001.sqlite3-shm", "notes.txt"):
        (server.state_dir / name).write_bytes(b"")
    server.start()
    eventually(lambda: not list(server.state_dir.glob("old-MDT0001.sqlite3*")))
    assert (server.state_dir / "notes.txt").exists()
    assert server.redis.dbsize() == 0


def test_state_is_kept_while_its_maintenance_runs(server: MetadataServer) -> None:
    state = server.state_dir / "old-MDT0001.sqlite3"
    with FileLock(server.state_dir / "old-MDT0001.maintenance.lock", "this test"):
        state.write_bytes(b"")
        server.start()
        server.add_mdt("elm-MDT0000")
        server.wait_running("elm-MDT0000")  # discovery has looked at everything
        assert state.exists()
    eventually(lambda: not state.exists())


def test_a_folder_that_cannot_be_read_is_no_departure(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.start()
    server.wait_running("elm-MDT0000")
    worker = server.worker("elm-MDT0000")

    hidden = server.root / "hidden"
    server.mdt_folder.rename(hidden)
    server.mdt_folder.symlink_to(server.mdt_folder)  # ELOOP: an error for root as well
    eventually(lambda: "running workers are kept" in server.log.read_text())
    server.mdt_folder.unlink()
    hidden.rename(server.mdt_folder)
    eventually(lambda: "mdt_watch_glob: recovered after" in server.log.read_text())
    after = server.worker("elm-MDT0000")
    assert worker is not None and after is not None and after.pid == worker.pid


def test_an_mdt_found_at_another_path_is_read_there(server: MetadataServer) -> None:
    server.configure(mdt_watch_glob=f"{server.root}/*/mdt/*-MDT????/hsm/actions")
    for folder, line in (("a", action_line(1)), ("b", action_line(2))):
        actions = server.root / folder / "mdt/elm-MDT0000/hsm/actions"
        actions.parent.mkdir(parents=True)
        actions.write_bytes(line)
    server.start()
    server.wait_events("elm-MDT0000", 1)
    eventually(lambda: server.log.read_text().count("elm-MDT0000 is already read from") == 1)

    shutil.rmtree(server.root / "a")
    eventually(lambda: any(event["rec_idx"] == 2 for event in server.events("elm-MDT0000")))


@pytest.mark.parametrize("name", ["mdt-elm-MDT0000", DISCOVERY])
def test_a_killed_program_comes_back_and_the_others_do_not_notice(server: MetadataServer, name: str) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.add_mdt("elm-MDT0001", action_line(2))
    server.start()
    server.wait_running("elm-MDT0000", "elm-MDT0001")
    eventually(lambda: server.programs()[DISCOVERY].state == "RUNNING")
    before = server.programs()
    os.kill(before[name].pid, signal.SIGKILL)
    server.wait_pid_changed(name, before[name].pid)
    after = server.programs()
    assert {other: after[other].pid for other in before if other != name} == {
        other: before[other].pid for other in before if other != name
    }
    server.add_mdt("elm-MDT0002")
    server.wait_running("elm-MDT0000", "elm-MDT0001", "elm-MDT0002")


def test_programs_keep_the_configuration_that_the_command_was_started_with(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.start()
    server.wait_running("elm-MDT0000")
    assert (server.run_dir / "config.json").stat().st_mode & 0o777 == 0o600
    server.config.write_text("half edited: [")
    before = server.programs()
    for program in before.values():
        os.kill(program.pid, signal.SIGKILL)
    for name, program in before.items():
        server.wait_pid_changed(name, program.pid)


def test_workers_do_not_notice_that_discovery_is_restarted(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.start()
    server.wait_running("elm-MDT0000")
    before = server.programs()
    assert "discovery: started" in server.supervisorctl("restart", DISCOVERY)
    server.wait_pid_changed(DISCOVERY, before[DISCOVERY].pid)
    after = server.worker("elm-MDT0000")
    assert after is not None and after.pid == before["mdt-elm-MDT0000"].pid


def test_nothing_outlives_a_killed_supervisord_and_the_next_one_starts_clean(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000", action_line(1))
    server.start()
    server.wait_running("elm-MDT0000")
    server.wait_events("elm-MDT0000", 1)
    assert len(server.processes()) == 4
    (server.run_dir / "mdt.d/mdt-gone-MDT0000.conf").write_text("[program:mdt-gone-MDT0000]\ncommand=sleep 1000\n")
    (server.run_dir / "mdt.d/broken.conf").write_text("no configuration\n")

    assert "was killed, not stopped" not in server.log.read_text()
    server.stop(signal.SIGKILL)
    eventually(lambda: not server.processes())
    server.start()
    server.wait_running("elm-MDT0000")
    assert "the one before was killed, not stopped" in server.log.read_text()
    assert server.stop() == 0
    assert [event["event_type"] for event in server.events("elm-MDT0000")] == ["NEW"]


def test_a_worker_that_gave_up_is_started_again(server: MetadataServer) -> None:
    with FileLock(worker_lock_path(server.state_dir, "elm-MDT0000"), "this test"):
        server.add_mdt("elm-MDT0000", action_line(1))
        server.start()
        eventually(lambda: (worker := server.worker("elm-MDT0000")) and worker.state in ("FATAL", "EXITED"))
        assert f"is already running (pid {os.getpid()}" in server.log.read_text()
    server.wait_running("elm-MDT0000")
    server.wait_events("elm-MDT0000", 1)


def test_an_arrival_that_fails_keeps_no_other_worker_from_starting_again(server: MetadataServer) -> None:
    with FileLock(worker_lock_path(server.state_dir, "elm-MDT0000"), "this test"):
        server.add_mdt("elm-MDT0000")
        server.start()
        eventually(lambda: (worker := server.worker("elm-MDT0000")) and worker.state in ("FATAL", "EXITED"))
        (server.run_dir / "mdt.d/zz.conf").write_text("neither a section nor a key")
        server.add_mdt("elm-MDT0001")
        eventually(lambda: "supervisord refused reloadConfig" in server.log.read_text())
    server.wait_running("elm-MDT0000")
    (server.run_dir / "mdt.d/zz.conf").unlink()
    server.wait_running("elm-MDT0000", "elm-MDT0001")


def test_a_reload_that_fails_is_no_configuration_for_a_person(server: MetadataServer) -> None:
    """What ends with 1 systemd starts again, and a start makes anew what could not be read."""
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_running("elm-MDT0000")
    (server.run_dir / "mdt.d/zz.conf").write_text("neither a section nor a key")
    assert server.stop(signal.SIGHUP) == 1
    said = server.log.read_text()
    assert "zz.conf" in said and "error: supervisord gave up, at the start or at a reload" in said
    server.start()
    server.wait_running("elm-MDT0000")
    assert "the one before was killed" not in server.log.read_text()


def test_a_worker_that_an_operator_stopped_stays_stopped(server: MetadataServer) -> None:
    server.add_mdt("elm-MDT0000")
    server.start()
    server.wait_running("elm-MDT0000")
    server.supervisorctl("stop", "mdt-elm-MDT0000")
    server.add_mdt("elm-MDT0001")
    eventually(lambda: server.worker("elm-MDT0001"))  # discovery has looked since
    worker = server.worker("elm-MDT0000")
    assert worker is not None and worker.state == "STOPPED"
