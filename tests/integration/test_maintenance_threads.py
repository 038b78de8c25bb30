"""The threads of maintenance go on, whatever a run meets, and say it."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest

from hsm_shipper.config import Config
from hsm_shipper.maintenance import main
from hsm_shipper.maintenance.main import Maintenance

MDT = "elm-MDT0000"


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
