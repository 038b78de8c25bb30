"""The record of maintenance runs: kept, pruned, written by several at once, and no loss if it is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hsm_shipper.errors import StateError
from hsm_shipper.state import maintenance_log
from hsm_shipper.state.maintenance_log import RecordedRun, last_runs, record, runs_file
from tests.support.waiting import DEADLINE_S


def run(number: int = 0, mdt: str = "elm-MDT0000", error: str | None = None) -> RecordedRun:
    if error is not None:
        return RecordedRun(mdt=mdt, host="mds1", started_at=number, duration_s=0.5, error=error)
    return RecordedRun(
        mdt=mdt,
        host="mds1",
        started_at=number,
        duration_s=0.5,
        entries=10,
        live=5,
        orphans=1,
        missing=2,
        differing=3,
        malformed=0,
        trimmed=4,
        refreshed=0,
        length=6,
    )


def test_the_last_run_of_each_mdt_and_the_last_that_worked(tmp_path: Path) -> None:
    assert last_runs(tmp_path) == {}
    for number, error in ((1, None), (2, "it failed")):
        record(tmp_path, run(number, error=error))
    record(tmp_path, run(3, "elm-MDT0001"))
    assert last_runs(tmp_path) == {"elm-MDT0000": run(2, error="it failed"), "elm-MDT0001": run(3, "elm-MDT0001")}
    assert last_runs(tmp_path, completed=True)["elm-MDT0000"] == run(1)
    assert (run(1).healed, run(2, error="it failed").healed) == (6, None)


def test_old_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance_log, "KEPT_RUNS", 3)
    record(tmp_path, run(0, "elm-MDT0001"))
    for number in range(5):
        record(tmp_path, run(number))
    assert started(tmp_path) == [0.0, 2.0, 3.0, 4.0]


def started(folder: Path) -> list[float]:
    """When each run began, in the order in which they were recorded."""
    with closing(sqlite3.connect(runs_file(folder))) as database:
        return [began for (began,) in database.execute("SELECT started_at FROM runs ORDER BY id")]


def test_the_first_ones_of_several_processes(tmp_path: Path) -> None:
    """Making the file and its table must not happen twice."""
    program = (
        "import sys; from pathlib import Path; from hsm_shipper.state.maintenance_log import RecordedRun, record\n"
        "record(Path(sys.argv[1]), RecordedRun(mdt=sys.argv[2], host='mds1', started_at=1, duration_s=1, error='e'))"
    )
    mdts = [f"elm-MDT{number:04x}" for number in range(6)]
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), mdt]) for mdt in mdts]
    assert [process.wait(DEADLINE_S) for process in processes] == [0] * len(mdts)
    assert last_runs(tmp_path).keys() == set(mdts)


@pytest.mark.parametrize("content", [b"no database " * 1000, b""])
def test_a_broken_file_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = runs_file(tmp_path)
    path.write_bytes(content)
    if content:
        with pytest.raises(StateError, match=r"maintenance\.sqlite3"):
            last_runs(tmp_path)
    else:
        assert last_runs(tmp_path) == {}
    record(tmp_path, run(1))
    assert last_runs(tmp_path) == {"elm-MDT0000": run(1)}
    assert path.with_name("maintenance.sqlite3.broken").exists() == bool(content)


def test_a_view_for_people(tmp_path: Path) -> None:
    record(tmp_path, run(0))
    with closing(sqlite3.connect(runs_file(tmp_path))) as database:
        row = database.execute("SELECT mdt, started, healed, length, error FROM last_runs").fetchone()
    assert row == ("elm-MDT0000", "1970-01-01 00:00:00Z", 6, 6, None)
