"""What the tests of the state file write into it."""

from __future__ import annotations

from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.state.poll_status import PollStatus
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.changes import Change
from tests.support.core import live_action

HEAD = Head("5-0", "5-0", "ab" * 20)
STATUS = PollStatus(
    mdt="elm-MDT0000", host="mds1", pid=7, polls=3, last_poll_at=1_759_401_125.5, last_poll_duration_s=0.1234,
    last_poll_read_s=0.0567,
    lines=9, live=8, backlog=1, backlog_since=1_759_401_005.0, events_new=20, events_update=30, events_purged=12,
    states_missed=2, lines_not_understood=1, last_error="Redis went away", last_error_at=1_759_401_065.0,
)  # fmt: skip


def refill(cache: StateFile, live: ActionFold, head: Head) -> None:
    """Make `live` what is known, up to `head`."""
    with cache.transaction():
        cache.apply(list(cache.live_actions()), list(live), head)


def new(data: bytes) -> Change:
    """The change that brings in the action of `data`."""
    return Change("NEW", None, None, live_action(data))
