"""Streams that earlier shippers of this family wrote are continued, and not told what they already say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.core import KEY, OneMdt, add, earlier_event, line, lines
from tests.support.truth import entries_of

LISTING = lines([1, 2, 3])


@pytest.fixture
def other(tmp_path: Path, mdt: OneMdt) -> OneMdt:
    """The same MDT as another host polls it."""
    return OneMdt(tmp_path / "mds2", mdt.client, host="mds2", actions=mdt.actions)


def test_a_stream_with_raw_is_continued_without_sending_what_it_says(mdt: OneMdt) -> None:
    add(mdt.client, *map(earlier_event, lines([1, 2])), earlier_event(line(2, "STARTED"), "UPDATE"))
    listing = [line(1), line(2, "STARTED")]
    assert mdt.poll(*listing).events == {}
    mdt.check(*listing)


def test_a_stream_without_raw_is_adopted_without_an_event(mdt: OneMdt) -> None:
    for data in LISTING:
        event = earlier_event(data)
        del event["raw"]
        add(mdt.client, event)
    result = mdt.poll(*LISTING)
    assert set(result.events) <= {"ADOPTED"}
    assert len(entries_of(mdt.client, KEY)) == 3
    mdt.told()
    mdt.poll(line(1), line(2, "STARTED"))
    assert mdt.told() == ["PURGED 1/3 WAITING", "UPDATE 1/2 STARTED"]


def test_an_adopted_line_is_adopted_again_after_the_state_was_lost(mdt: OneMdt, other: OneMdt) -> None:
    event = earlier_event(line(1))
    del event["raw"]
    add(mdt.client, event)
    mdt.poll(line(1))
    other.poll(line(1))
    assert len(entries_of(mdt.client, KEY)) == 1


def test_what_changed_since_an_earlier_shipper_wrote_is_sent(mdt: OneMdt) -> None:
    add(mdt.client, *map(earlier_event, LISTING))
    mdt.told()
    mdt.poll(line(1), line(2, "STARTED"), line(4))
    assert mdt.told() == ["PURGED 1/3 WAITING", "UPDATE 1/2 STARTED", "NEW 1/4 WAITING"]
    mdt.check(line(1), line(2, "STARTED"), line(4))


def test_an_update_of_an_earlier_shippers_action_keeps_when_it_was_first_seen(mdt: OneMdt) -> None:
    add(mdt.client, earlier_event(line(1), timestamp=1000), earlier_event(line(1, "STARTED"), "UPDATE", 2000))
    mdt.events()
    mdt.poll(line(1, "STARTED").replace(b"flags=0x0", b"flags=0x4"))
    (update,) = mdt.events()
    assert (update["first_seen"], update["status_since"]) == (1000, 2000)


def test_purged_by_key_is_honoured(mdt: OneMdt) -> None:
    gone = {"event_type": "PURGED", "action_key": "0x200000401:0x3:0x0:ARCHIVE", "status": "PURGED", "timestamp": 5}
    add(mdt.client, *map(earlier_event, LISTING), gone, gone | {"action_key": "0x9:0x9:0x0:ARCHIVE", "cat_idx": None})
    assert mdt.poll(line(1), line(2)).events == {}
    mdt.events()
    mdt.poll(*LISTING)
    assert mdt.told() == ["NEW 1/3 WAITING"]
