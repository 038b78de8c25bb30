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
from tests.support.core import MDT, OneMdt, lines
from tests.support.servers import RedisServer


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
