"""A clock that is set back, as of a server that has just booted: what is told of before is not told of now."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from hsm_shipper.commands.status import gather
from hsm_shipper.config import Config
from hsm_shipper.errors import HsmError
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.state.state_file import open_state_file
from hsm_shipper.worker.poll_result import PollResult
from tests.support.states import STATUS

MDT = "elm-MDT0000"


def test_an_error_of_before_the_clock_was_set_back_is_not_the_last_polls() -> None:
    failed = replace(STATUS, last_error_at=STATUS.last_poll_at)
    assert failed.error == "Redis went away"
    for apart_s in (-3600.0, 3600.0):
        assert replace(STATUS, last_error_at=STATUS.last_poll_at + apart_s).error is None
    assert replace(STATUS, last_error=None, last_error_at=None).error is None


def test_a_poll_that_failed_is_told_to_have_failed_by_the_file_as_well(tmp_path: Path) -> None:
    result = PollResult.begun(MDT, "mds1")
    result.error = HsmError("no Redis")
    opened, _ = open_state_file(state_file(tmp_path, MDT))
    for result.last_poll_at in (1_759_401_125.1234567, 1_759_401_125.0, 0.1 + 0.2):
        opened.save_poll_status(result.status_after(None))
        stored = opened.poll_status()
        assert stored is not None and stored.error == "no Redis"
    result.error = None
    result.last_poll_at = 0.0  # the clock is set back
    opened.save_poll_status(result.status_after(stored))
    stored = opened.poll_status()
    assert stored is not None and (stored.error, stored.last_error) == (None, "no Redis")
    opened.close()


@pytest.mark.parametrize(
    ("ahead_s", "stale"), [(-3600.0, "no poll for a long time"), (-5.0, None), (5.0, None), (3600.0, "no poll since")]
)
def test_a_worker_that_has_not_polled_since_is_no_more_fresh(tmp_path: Path, ahead_s: float, stale: str | None) -> None:
    opened, _ = open_state_file(state_file(tmp_path, MDT))
    opened.save_poll_status(STATUS)
    opened.close()
    config = Config(state_dir=str(tmp_path), run_dir=str(tmp_path), mdt_watch_glob=str(tmp_path / "*"))
    [mdt] = gather(config, STATUS.last_poll_at - ahead_s).mdts
    assert mdt.stale == (stale is not None) == any((stale or "no poll") in trouble for trouble in mdt.troubles)
    assert mdt.poll_age_s == max(0.0, -ahead_s)
