"""`hsm-stream-reconciler`, installed: what it finds, what it heals, and what it removes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from hsm_shipper.contract.redis_keys import heartbeat_key, maintenance_key
from hsm_shipper.state.poll_status import state_file
from tests.acceptance.conftest import MakeServer
from tests.simulator import SimulatedMdt, Workload
from tests.support.audits import CONSISTENT, INCONSISTENT, UNKNOWN, audit, beat, found, poll_long_ago, run
from tests.support.maintained import delete_unnoticed
from tests.support.site import LIVE, MDT, STREAM, SimulatedServer, is_true
from tests.support.waiting import eventually


def entries(server: SimulatedServer, event_type: str) -> list[bytes]:
    """Ids of the entries of one type."""
    pairs = cast(list[tuple[bytes, dict[bytes, bytes]]], server.redis.xrange(STREAM))
    return [entry_id for entry_id, fields in pairs if json.loads(fields[b"data"])["event_type"] == event_type]


def poll(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """Have the running worker ship the listing."""
    mdt.write()
    server.wait_polled(mdt)


def lose(server: SimulatedServer, mdt: SimulatedMdt, event_type: str) -> None:
    """Delete the newest entry of a type from the stream, but not the newest of all, without the worker's noticing."""
    mdt.submit("ARCHIVE")
    poll(server, mdt)
    delete_unnoticed(server, entries(server, event_type)[-1 - (event_type == "NEW")])


def make_orphan(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    mdt.remove(mdt.records()[0])
    poll(server, mdt)
    lose(server, mdt, "PURGED")


def make_missing(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    lose(server, mdt, "NEW")


def make_differing(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    mdt.set_status(next(record for record in mdt.records() if record.status == "WAITING"), "FAILED")
    poll(server, mdt)
    lose(server, mdt, "UPDATE")


def test_a_true_stream(polling: SimulatedServer) -> None:
    beat(polling)
    report = audit(polling, CONSISTENT)
    assert found(report) == (0, 0, 0)
    assert (report["live"], report["entries"], report["garbage_ratio"]) == (LIVE, LIVE, 0)
    assert (report["duplicates"], report["malformed"], report["purged_without_new"]) == (0, 0, 0)
    assert report["entries_bound"] == 2 * LIVE + 1000
    assert 0 <= report["heartbeat_age_s"] < 30 and report["heartbeat"]["host"] == "mds1"
    assert report["state_file"]["untold"] is None and report["actions_file"]["untold"] is None
    assert report["troubles"] == []
    done = run(polling, MDT)
    assert (done.returncode, done.stderr) == (CONSISTENT, "")
    assert done.stdout.splitlines()[2].split()[:6] == [MDT, "consistent", str(LIVE), "0", "0", "0"]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [(make_orphan, (1, 0, 0)), (make_missing, (0, 1, 0)), (make_differing, (0, 0, 1))],
    ids=["orphan", "missing", "differing"],
)
def test_what_differs_is_found_and_healed(
    polling: SimulatedServer,
    mdt: SimulatedMdt,
    damage: Callable[[SimulatedServer, SimulatedMdt], None],
    expected: tuple[int, int, int],
) -> None:
    damage(polling, mdt)
    report = audit(polling, INCONSISTENT)
    assert found(report) == expected
    for reference in ("state_file", "actions_file"):
        assert found(report[reference]) == expected and len(report[reference]["examples"]) == 1
    done = run(polling, "--fix", "--dry-run")
    assert done.returncode == INCONSISTENT and f"would be healed by: hsm-action-shipper maintain {MDT}" in done.stderr
    assert found(audit(polling, INCONSISTENT)) == expected
    report = audit(polling, CONSISTENT, "--fix")
    assert found(report) == (0, 0, 0)
    assert is_true(polling.redis, mdt)


def test_malformed_entries_are_told(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    entry_id = cast(bytes, polling.redis.xadd(STREAM, {"data": b"\x1b[2J no event"})).decode()
    polling.wait_polled(mdt)
    report = audit(polling, INCONSISTENT)
    assert (report["malformed"], report["malformed_ids"]) == (1, [entry_id]) and found(report) == (0, 0, 0)
    assert f"1 malformed entries: {entry_id}" in run(polling).stdout


def test_what_says_nothing_new_only_informs(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    mdt.remove(mdt.records()[0])
    poll(polling, mdt)
    pairs = cast(list[tuple[bytes, dict[bytes, bytes]]], polling.redis.xrange(STREAM))
    polling.redis.xadd(STREAM, cast(Any, pairs[-1][1]))  # the PURGED, again
    polling.redis.xadd(STREAM, cast(Any, pairs[-2][1]))  # a NEW, again
    polling.wait_polled(mdt)
    report = audit(polling, CONSISTENT)
    assert (report["duplicates"], report["purged_without_new"], report["entries"]) == (1, 1, LIVE + 3)
    assert report["garbage_ratio"] == pytest.approx(4 / (LIVE + 3))


def test_nothing_is_accused_beside_a_worker_at_full_speed(polling: SimulatedServer, mdt: SimulatedMdt) -> None:
    workload = Workload(mdt, arrivals_per_s=50.0)
    done = threading.Event()

    def live() -> None:
        while not done.wait(0.02):
            workload.advance(2)
            mdt.write()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        for _ in range(5):
            assert found(audit(polling, CONSISTENT)) == (0, 0, 0)
    finally:
        done.set()
        thread.join()
    eventually(lambda: len(entries(polling, "NEW")) > 2 * LIVE)


def test_without_a_shipper_nothing_is_fixed(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    poll_long_ago(server)
    server.redis.delete(STREAM)
    done = run(server, "--fix")
    assert done.returncode == INCONSISTENT and "no shipper runs here" in done.stderr
    assert f"{LIVE} actions not in the stream, but in the state file: " in done.stdout


def test_a_flushed_stream_is_missing_everything(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    poll_long_ago(server)
    server.redis.delete(STREAM)
    report = audit(server, INCONSISTENT)
    assert found(report) == (0, LIVE, 0) and len(report["state_file"]["examples"]) == LIVE


@pytest.mark.parametrize(
    "arguments",
    [["--retire", MDT, "--fix"], ["--dry-run"], ["--yes"], ["no/mdt"], ["--fix", "--db", "3"], ["--retire", MDT, MDT]],
    ids=" ".join,
)
def test_usage(server: SimulatedServer, arguments: list[str]) -> None:
    done = run(server, *arguments)
    assert (done.returncode, done.stdout) == (UNKNOWN, "") and done.stderr


def test_retire(polling: SimulatedServer, mdt: SimulatedMdt, make_server: MakeServer) -> None:
    elsewhere = make_server("client")
    beat(polling)
    assert "is on this server" in run(polling, "--retire", MDT, "--yes").stderr
    done = run(elsewhere, "--retire", MDT, "--yes")
    assert done.returncode == UNKNOWN and "is alive" in done.stderr
    mdt.unmount()
    eventually(lambda: not state_file(polling.state_dir, MDT).exists())
    polling.redis.delete(heartbeat_key("hsm:actions", MDT))
    polling.redis.set(maintenance_key("hsm:actions", MDT), "left over")

    done = run(elsewhere, "--retire", MDT, stdin=subprocess.DEVNULL)
    assert done.returncode == UNKNOWN and "agree with --yes" in done.stderr
    done = run(elsewhere, "--retire", MDT, "--dry-run")
    assert (done.returncode, done.stdout.split()[:2]) == (CONSISTENT, ["would", "remove"])
    assert polling.redis.exists(STREAM)

    done = run(elsewhere, "--retire", MDT, "--yes")
    assert done.returncode == CONSISTENT and done.stdout.startswith(f"removed stream {STREAM} at ")
    assert polling.redis.keys("*") == []
    assert "there is no stream" in run(elsewhere, "--retire", MDT, "--yes").stderr


@pytest.mark.parametrize(("answer", "kept"), [("n", True), ("", True), ("y", False)])
def test_retire_asks_on_a_terminal(server: SimulatedServer, answer: str, kept: bool) -> None:
    server.redis.xadd(STREAM, {"data": "{}"})
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = run(server, "--retire", MDT, stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == CONSISTENT and "for good? [y/N]" in done.stderr
    assert done.stdout.split()[0] == ("kept" if kept else "removed")
    assert bool(server.redis.exists(STREAM)) is kept


def test_help_names_every_exit_code_and_is_quick(server: SimulatedServer) -> None:
    done = run(server, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: hsm-stream-reconciler")
    assert all(word in done.stdout for word in ("exit codes:", "--retire", "--fix", "--dry-run", "examples:"))
