"""The public fold: what is live, over all streams."""

from __future__ import annotations

from typing import Any

from hsm_tools.event import StreamEvent
from hsm_tools.live import LiveAction, LiveActions

FID = "0x200000401:0x3:0x0"


def event(mdt: str, rec: int, kind: str = "NEW", status: str = "WAITING", **more: Any) -> StreamEvent:
    data = {"event_type": kind, "cat_idx": 1, "rec_idx": rec, "fid": FID, "action": "ARCHIVE", "status": status}
    data |= {"cookie": hex(rec), "first_seen": 100, "status_since": 150, "timestamp": 150} | more
    return StreamEvent(f"hsm:actions:{mdt}", f"{rec + 1}-0", data)


def test_streams_do_not_touch_each_other() -> None:
    live = LiveActions()
    for it in (
        event("elm-MDT0001", 1),
        event("elm-MDT0000", 1),
        event("elm-MDT0000", 2, status="STARTED"),
        event("elm-MDT0000", 1, "PURGED", "PURGED"),
    ):
        live.apply(it)
    assert len(live) == 2
    assert live.counts() == {("elm-MDT0000", "ARCHIVE", "STARTED"): 1, ("elm-MDT0001", "ARCHIVE", "WAITING"): 1}
    first, second = live
    assert first == LiveAction("elm-MDT0000", 1, 2, FID, "ARCHIVE", "STARTED", "0x2", 100, 150, "3-0")
    assert second.mdt == "elm-MDT0001"


def test_ages_count_from_the_times_of_the_action() -> None:
    live = LiveActions()
    live.apply(event("elm-MDT0000", 1))
    [action] = live
    assert (action.age_s(160), action.status_age_s(160), action.age_s(90)) == (60, 10, 0)
    assert action.age_s() > 10**9  # type: ignore[operator]
    assert action._replace(first_seen=None).age_s() is None


def test_what_is_no_event_is_counted() -> None:
    live = LiveActions()
    live.apply(StreamEvent("hsm:actions:elm-MDT0000", "1-0", {"event_type": "NEW"}))
    live.apply(StreamEvent("hsm:actions:elm-MDT0000", "2-0", {}))
    assert (live.malformed, len(live), [*live], live.counts()) == (2, 0, [], {})


def test_a_purged_by_an_earlier_shipper_is_honoured() -> None:
    live = LiveActions()
    live.apply(event("elm-MDT0000", 1))
    live.apply(StreamEvent("hsm:actions:elm-MDT0000", "9-0", {"event_type": "PURGED", "action_key": f"{FID}:ARCHIVE"}))
    assert len(live) == 0
