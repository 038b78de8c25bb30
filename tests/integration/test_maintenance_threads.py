"""The process of maintenance goes on, whatever a run meets, says it, and is no larger for it."""

from __future__ import annotations

import gc
import logging
import signal
from pathlib import Path

import pytest
from redis._parsers import _HiredisParser

from hsm_shipper.config import Config
from hsm_shipper.maintenance import main
from hsm_shipper.maintenance import run as run_module
from hsm_shipper.maintenance.main import Maintenance
from hsm_shipper.maintenance.run import MaintenanceRun
from hsm_shipper.state.maintenance_log import RecordedRun, last_runs, record
from hsm_shipper.state.state_file import StateFile
from tests.support.core import MDT, OneMdt, lines
from tests.support.servers import RedisServer
from tests.support.waiting import eventually


@pytest.fixture
def kept(tmp_path: Path) -> Maintenance:
    """It has one MDT to maintain."""
    kept = Maintenance(Config(state_dir=str(tmp_path), run_dir=str(tmp_path)))
    kept._actions = {MDT: tmp_path}
    return kept


def fails(*_args: object) -> None:
    raise KeyError("place")


def test_a_run_that_fails_as_nobody_foresaw_is_said_and_tried_again_soon(
    kept: Maintenance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(main, "MaintenanceRun", lambda *_: fails)
    kept._run(MDT)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    said = record.getMessage()
    assert said.startswith(f"{MDT}: maintenance failed: KeyError: 'place' (test_maintenance_threads.py:")
    assert kept._jobs.is_coming(MDT)
    kept.stop()


def test_a_run_that_failed_before_its_mdt_left_has_not_recovered_when_it_returns(
    kept: Maintenance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kept._jobs.add(MDT)
    monkeypatch.setattr(main, "MaintenanceRun", lambda *_: fails)
    kept._run(MDT)
    kept.step()
    assert not kept._jobs.mdts()
    caplog.clear()
    kept._errors.worked(MDT)
    assert caplog.text == ""
    kept.stop()


def test_an_order_that_fails_does_not_end_the_obeying(
    kept: Maintenance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    orders = iter([{signal.SIGUSR1}, {signal.SIGUSR1}])
    monkeypatch.setattr(signal, "sigwait", lambda _signals: next(orders))
    monkeypatch.setattr(kept, "run_all", fails)
    with pytest.raises(StopIteration):
        main._obey(kept)
    assert caplog.text.count("maintenance was asked for and could not be begun: KeyError: 'place'") == 2
    kept.stop()


def test_an_mdt_that_returns_is_maintained_once_its_worker_has_been_in_the_stream(
    mdt: OneMdt, redis_server: RedisServer, redis_db: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It was maintained here long ago: a run was missed, and would fail while the state file is empty."""
    caplog.set_level(logging.INFO)
    actions = mdt.state.parent / MDT / "hsm/actions"
    actions.parent.mkdir(parents=True)
    actions.touch()
    config = Config(
        mdt_watch_glob=f"{mdt.state.parent}/*-MDT????/hsm/actions",
        state_dir=str(mdt.state.parent),
        run_dir=str(mdt.state.parent),
        redis_port=redis_server.port,
        redis_db=redis_db,
    )
    record(mdt.state.parent, RecordedRun(mdt=MDT, host="mds1", started_at=1.0, duration_s=0.1))
    StateFile(mdt.state).close()
    maintenance = Maintenance(config)
    try:
        maintenance.step()
        assert not maintenance._jobs.mdts()
        mdt.poll(*lines(range(1, 7)))
        maintenance.step()
        eventually(lambda: last_runs(mdt.state.parent)[MDT].live == 6)
    finally:
        maintenance.stop()
    assert "failed" not in caplog.text


def test_a_run_leaves_no_reply_buffer_in_memory(mdt: OneMdt, redis_server: RedisServer, redis_db: int) -> None:
    """The collector looks seldom in this process: what is left of each run would add up."""
    mdt.poll(*lines(range(1, 7)))
    config = Config(state_dir=str(mdt.state.parent), redis_port=redis_server.port, redis_db=redis_db)
    run = MaintenanceRun(config, MDT, mdt.actions, lambda: False)
    run()  # redis-py's lock keeps the first client that it is given
    before = parsers_in_memory()
    gc.disable()
    try:
        assert run().live == 6
        assert parsers_in_memory() == before
    finally:
        gc.enable()


def parsers_in_memory() -> int:
    """How many parsers of redis-py there are: each has the buffer that a connection reads replies from."""
    return sum(isinstance(each, _HiredisParser) for each in gc.get_objects())


def test_memory_is_returned_before_a_run_is_recorded(
    mdt: OneMdt, redis_server: RedisServer, redis_db: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported to record it stays for good, and would lie among what a long stream took."""
    mdt.poll(*lines(range(1, 7)))
    config = Config(state_dir=str(mdt.state.parent), redis_port=redis_server.port, redis_db=redis_db)
    steps: list[str] = []
    monkeypatch.setattr(run_module, "return_memory", lambda: steps.append("return_memory"))
    monkeypatch.setattr(run_module, "record", lambda *_: steps.append("record"))
    MaintenanceRun(config, MDT, mdt.actions, lambda: False)()
    assert steps == ["return_memory", "record"]
