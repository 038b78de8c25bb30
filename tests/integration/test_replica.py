"""What the stream says and what we believe it says: both in step again, whatever happens to the stream."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hsm_shipper.contract.kernel_line import parse_line
from hsm_shipper.errors import StreamUnavailable
from hsm_shipper.worker.changes import Change, ChangeWriter
from hsm_shipper.worker.held_lines import NewLine
from tests.support.core import HOST, KEY, MDT, OneMdt, Wire, add, digest, earlier_event, line, lines, shipper_client
from tests.support.servers import RedisServer
from tests.support.truth import entries_of, judge_stream
from tests.support.waiting import eventually

LISTING = lines([1, 2, 3])


@pytest.fixture
def other(tmp_path: Path, redis_server: RedisServer, redis_db: int, mdt: OneMdt) -> OneMdt:
    """The same MDT as another host polls it."""
    return OneMdt(tmp_path / "mds2", shipper_client(redis_server, redis_db), host="mds2", actions=mdt.actions)


def new_change(data: bytes) -> Change:
    """What the poller ships for a new line."""
    record = parse_line(data)
    assert record is not None
    return ChangeWriter(MDT, HOST).state(NewLine(data, digest(data), record), None, 1000)


def kinds(mdt: OneMdt) -> list[str]:
    """Kinds of the events that were added since the last look."""
    return [event["event_type"] for event in mdt.events()]


# A reply that never came, a batch that never went


def test_a_lost_reply_sends_nothing_twice(mdt: OneMdt, wire: Wire) -> None:
    wire.lose_reply = True
    mdt.shows(*LISTING)
    assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    assert mdt.poll(*LISTING).events == {}
    assert kinds(mdt) == ["NEW", "NEW", "NEW"]
    mdt.check(*LISTING)


def test_a_lost_reply_of_purges_sends_nothing_twice(mdt: OneMdt, wire: Wire) -> None:
    mdt.poll(*LISTING)
    mdt.told()
    wire.lose_reply = True
    mdt.shows(line(1), line(2, "STARTED"))
    assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    mdt.poll(line(1), line(2, "STARTED"))
    assert mdt.told() == ["PURGED 1/3 WAITING", "UPDATE 1/2 STARTED"]
    mdt.check(line(1), line(2, "STARTED"))


def test_a_batch_that_never_reached_the_server_goes_with_the_next_poll(mdt: OneMdt, wire: Wire) -> None:
    mdt.poll(line(1))
    wire.fail_sending = "EVALSHA"
    mdt.shows(*LISTING)
    assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    assert mdt.poll(*LISTING).events == {"NEW": 2}
    mdt.check(*LISTING)


def test_a_reply_lost_among_several_batches_sends_nothing_twice(mdt: OneMdt, wire: Wire) -> None:
    listing = lines(range(1, 3501))
    mdt.shows(*listing)
    armed = iter([False, True])

    def second_append() -> None:
        wire.lose_reply = next(armed)
        if not wire.lose_reply:
            wire.before_append = second_append

    wire.before_append = second_append
    assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    assert 0 < len(entries_of(mdt.client, KEY)) < 3500
    mdt.poll(*listing)
    assert len(entries_of(mdt.client, KEY)) == 3500
    mdt.check(*listing)


def test_a_batch_on_its_way_is_forgotten_when_the_state_is_closed(mdt: OneMdt) -> None:
    mdt.replica.open()
    mdt.replica.catch_up()
    mdt.replica.ship([new_change(line(1))])
    mdt.replica.close()
    eventually(lambda: entries_of(mdt.client, KEY))
    mdt.replica.open()
    mdt.replica.catch_up()
    mdt.replica.settle()
    assert mdt.replica.shipped == {}
    mdt.check(line(1))


# A stream that is not where we left it


def test_a_flush_is_noticed_though_the_listing_does_not_change(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    mdt.client.flushdb()
    assert mdt.poll(*LISTING).events == {"NEW": 3}
    mdt.check(*LISTING)


def test_a_server_that_rolled_back_is_told_again_what_it_lost(mdt: OneMdt) -> None:
    mdt.poll(line(1), line(2), line(4))
    dump: Any = mdt.client.dump(KEY)
    mdt.told()
    mdt.poll(line(1, "STARTED"), line(2), line(3))
    mdt.client.restore(KEY, 0, dump, replace=True)
    mdt.told()
    mdt.poll(line(1, "STARTED"), line(2), line(3))
    assert sorted(mdt.told()) == ["NEW 1/3 WAITING", "PURGED 1/4 WAITING", "UPDATE 1/1 STARTED"]
    mdt.check(line(1, "STARTED"), line(2), line(3))


def test_a_stream_that_was_written_anew_up_to_the_same_id_is_told_again_what_it_lacks(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    (first, data), _, (last, _) = entries_of(mdt.client, KEY)
    mdt.client.delete(KEY)
    mdt.client.xadd(KEY, {"data": data or b""}, id=first)
    mdt.client.xadd(KEY, {"data": msgspec.json.encode(earlier_event(line(9)))}, id=last)
    mdt.forget_told()
    mdt.told()
    mdt.poll(*LISTING)
    assert mdt.told() == ["PURGED 1/9 WAITING", "NEW 1/2 WAITING", "NEW 1/3 WAITING"]
    mdt.check(*LISTING)


def test_a_deleted_newest_entry_is_told_again(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    mdt.client.xdel(KEY, entries_of(mdt.client, KEY)[-1][0])
    assert mdt.poll(*LISTING).events == {"NEW": 1}
    mdt.check(*LISTING)


def test_a_deleted_only_entry_is_told_again(mdt: OneMdt) -> None:
    mdt.poll(line(1))
    mdt.client.xdel(KEY, entries_of(mdt.client, KEY)[-1][0])
    assert mdt.poll(line(1)).events == {"NEW": 1}
    mdt.check(line(1))


def test_a_deleted_purged_is_told_again(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    mdt.poll(line(1), line(2))
    mdt.client.xdel(KEY, entries_of(mdt.client, KEY)[-1][0])
    assert mdt.poll(line(1), line(2)).events == {"PURGED": 1}
    mdt.check(line(1), line(2))


def test_a_stream_trimmed_under_live_actions_is_told_again(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    mdt.client.xtrim(KEY, maxlen=0, approximate=False)
    assert mdt.poll(*LISTING).events == {"NEW": 3}
    mdt.check(*LISTING)


def test_a_stream_trimmed_to_nothing_without_live_actions_is_left_alone(
    mdt: OneMdt, caplog: pytest.LogCaptureFixture
) -> None:
    mdt.poll(line(1), line(2))
    mdt.poll(line(1))
    mdt.poll()
    mdt.poll()
    mdt.client.xtrim(KEY, maxlen=0, approximate=False)
    caplog.set_level(logging.INFO)
    assert mdt.poll().events == {}
    assert not [record for record in caplog.records if "catching up" in record.getMessage()]
    assert mdt.poll(line(5)).events == {"NEW": 1}
    assert [data is not None for _, data in entries_of(mdt.client, KEY)] == [True]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"{}",
        b'{"event_type":"NEW"}',
        b"\xff\xfe",
        b'{"event_type":"NEW","mdt":"elm-MDT0000"}',
        b'{"event_type":"NEW","x":' + b"[" * 10_000,
    ],
    ids=["empty", "text", "empty object", "no place", "no UTF-8", "useless", "nested deep"],
)
def test_a_malformed_newest_entry_is_passed_over(mdt: OneMdt, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    mdt.poll(*LISTING)
    (entry_id,) = add(mdt.client, data)
    assert mdt.poll(*LISTING).events == {}
    assert [m for m in caplog.messages if f"malformed entry {entry_id} is passed over" in m]
    assert mdt.poll(*LISTING[:2]).events == {"PURGED": 1}
    mdt.check(*LISTING[:2])


def test_an_entry_without_the_field_is_passed_over(mdt: OneMdt) -> None:
    mdt.poll(*LISTING)
    mdt.client.xadd(KEY, {"other": "field"})
    assert mdt.poll(*LISTING).events == {}
    mdt.check(*LISTING)


@pytest.mark.parametrize(("key", "seconds"), [("timestamp", 1e300), ("first_seen", -1e300), ("status_since", 2**63)])
def test_an_entry_with_an_impossible_time_does_not_stop_the_polling(mdt: OneMdt, key: str, seconds: float) -> None:
    mdt.poll(*LISTING)
    add(mdt.client, earlier_event(line(4)) | {key: seconds})
    mdt.poll(*LISTING)
    mdt.poll(*LISTING)
    assert {action.rec_idx for action in judge_stream(mdt.client, KEY).live} == {1, 2, 3}


@pytest.mark.parametrize("recs", [[8], [8, 9]], ids=["one more place", "two more places"])
@pytest.mark.parametrize("told", [{}, {"raw": None, "hash": "ab" * 16}], ids=["by raw", "by hash"])
def test_places_that_claim_the_same_line_mislead_nobody(mdt: OneMdt, recs: list[int], told: dict[str, object]) -> None:
    mdt.poll(*LISTING)
    add(mdt.client, *(earlier_event(line(1)) | told | {"rec_idx": rec} for rec in recs))
    for _ in range(4):
        mdt.poll(*LISTING)
    assert "PURGED 1/1 WAITING" not in mdt.told()
    assert {action.rec_idx for action in judge_stream(mdt.client, KEY).live} == {1, 2, 3}


# Other writers


def test_an_mdt_that_comes_from_another_host_is_continued(
    mdt: OneMdt, other: OneMdt, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mdt.poll(*LISTING)
    assert other.poll(*LISTING).events == {}
    assert "of these, other hosts wrote: 3 by mds1" in caplog.messages
    assert other.poll(line(1), line(2, "STARTED")).events == {"PURGED": 1, "UPDATE": 1}
    other.check(line(1), line(2, "STARTED"))


def test_an_mdt_that_comes_back_goes_on_from_where_it_is_now(mdt: OneMdt, other: OneMdt) -> None:
    mdt.poll(*LISTING)
    other.poll(line(1), line(2, "STARTED"), line(4))
    assert mdt.poll(line(1), line(2, "STARTED"), line(4)).events == {}
    assert mdt.poll(line(1), line(4)).events == {"PURGED": 1}
    mdt.check(line(1), line(4))


def test_a_second_writer_between_reading_and_appending_makes_nothing_twice(
    mdt: OneMdt, other: OneMdt, wire: Wire
) -> None:
    mdt.poll(line(1))
    mdt.shows(*LISTING)
    wire.before_append = other.poller.poll
    assert mdt.poll(*LISTING).events == {}
    assert kinds(mdt) == ["NEW", "NEW", "NEW"]
    mdt.check(*LISTING)


def test_a_writer_that_never_rests_is_left_to_the_next_poll(mdt: OneMdt, wire: Wire) -> None:
    def again() -> None:
        add(mdt.client, b"{}")
        wire.before_append = again

    mdt.shows(*LISTING)
    wire.before_append = again
    assert mdt.poller.poll().error is not None
    assert len(entries_of(mdt.client, KEY)) == 2
    wire.before_append = None
    assert mdt.poll(*LISTING).events == {"NEW": 3}
    mdt.check(*LISTING)


def test_a_host_whose_mdt_left_while_it_read_purges_nothing(mdt: OneMdt, other: OneMdt, wire: Wire) -> None:
    mdt.poll(*LISTING)
    mdt.shows(line(1), line(2))  # what the old host has read

    def leave() -> None:
        other.poll(*LISTING, line(4))
        mdt.actions.unlink()

    wire.before_append = leave
    result = mdt.poller.poll()
    assert result.events == {}
    mdt.shows(*LISTING, line(4))
    other.check(*LISTING, line(4))
