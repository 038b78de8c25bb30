"""Polls of listings that can be trusted: which events they make, in which order, and what is remembered of them."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from random import Random

import msgspec
import pytest
import redis

from hsm_shipper.contract.kernel_line import parse_line
from hsm_shipper.errors import StreamUnavailable
from hsm_shipper.worker.batch_size import BATCH_BYTES, BATCH_EVENTS, HELD_MAX_S, SMALLEST_EVENTS
from tests.support.core import HOST, KEY, MDT, FaultyFile, OneMdt, Wire, digest, line, lines, shipper_client
from tests.support.servers import RedisServer
from tests.support.truth import entries_of

# What happened to the records


def test_every_state_that_a_poll_sees_is_told_once(mdt: OneMdt) -> None:
    mdt.poll(line(1), line(2))
    mdt.poll(line(1, "STARTED"), line(2))
    mdt.poll(line(1, "SUCCEED"), line(2), line(3))
    mdt.poll(line(2), line(3))
    mdt.poll(line(2), line(3))
    assert mdt.told() == [
        "NEW 1/1 WAITING",
        "NEW 1/2 WAITING",
        "UPDATE 1/1 STARTED",
        "UPDATE 1/1 SUCCEED",
        "NEW 1/3 WAITING",
        "PURGED 1/1 SUCCEED",
    ]
    mdt.check(line(2), line(3))


def test_a_retry_goes_back_to_waiting(mdt: OneMdt) -> None:
    for status in ("WAITING", "STARTED", "WAITING"):
        mdt.poll(line(1, status))
    assert mdt.told() == ["NEW 1/1 WAITING", "UPDATE 1/1 STARTED", "UPDATE 1/1 WAITING"]
    mdt.check(line(1))


def test_an_unchanged_listing_adds_nothing_though_the_file_is_another(mdt: OneMdt) -> None:
    mdt.poll(*lines([1, 2]))
    result = mdt.poll(*lines([1, 2]))
    assert (result.events, result.lines, result.live, result.backlog) == ({}, 2, 2, 0)
    assert len(entries_of(mdt.client, KEY)) == 2


def test_an_unchanged_poll_asks_the_server_once(tmp_path: Path, redis_server: RedisServer, redis_db: int) -> None:
    wire = Wire()
    mdt = OneMdt(tmp_path / "mds1", shipper_client(redis_server, redis_db, wire))
    mdt.poll(*lines([1, 2]))
    wire.sent.clear()
    mdt.poll(*lines([1, 2]))
    assert wire.sent == ["EVALSHA"]


def test_an_empty_listing_of_a_new_mdt_makes_no_stream(mdt: OneMdt) -> None:
    assert mdt.poll().events == {}
    assert not mdt.client.exists(KEY)


def test_purges_are_told_before_everything_else_of_a_poll(mdt: OneMdt) -> None:
    mdt.poll(*lines(range(1, 7)))
    mdt.told()
    mdt.poll(line(1, "STARTED"), line(2), line(4), line(5), line(7))
    assert mdt.told() == ["PURGED 1/3 WAITING", "PURGED 1/6 WAITING", "UPDATE 1/1 STARTED", "NEW 1/7 WAITING"]


def test_a_place_reused_by_another_action_ends_the_old_one(mdt: OneMdt) -> None:
    mdt.poll(line(1, "SUCCEED"), line(2))
    mdt.told()
    successor = line(1, fid="0x9:0x9:0x0", cookie=9)
    mdt.poll(successor, line(2))
    assert mdt.told() == ["PURGED 1/1 SUCCEED", "NEW 1/1 WAITING"]
    mdt.check(successor, line(2))


@pytest.mark.parametrize(
    "successor",
    [line(1, cookie=9), line(1, fid="0x9:0x9:0x0"), line(1, action="RESTORE")],
    ids=["cookie", "FID", "action"],
)
def test_another_cookie_fid_or_action_is_another_action(mdt: OneMdt, successor: bytes) -> None:
    mdt.poll(line(1), line(2))
    mdt.told()
    mdt.poll(successor, line(2))
    assert mdt.told() == ["PURGED 1/1 WAITING", "NEW 1/1 WAITING"]
    mdt.check(successor, line(2))


def test_two_records_that_swapped_places_end_and_begin(mdt: OneMdt) -> None:
    mdt.poll(line(1), line(2, "STARTED"))
    mdt.told()
    swapped = [
        line(1, "STARTED", fid="0x200000401:0x2:0x0", cookie=0x6B020002),
        line(2, fid="0x200000401:0x1:0x0", cookie=0x6B020001),
    ]
    mdt.poll(*swapped)
    assert mdt.told() == ["PURGED 1/1 WAITING", "PURGED 1/2 STARTED", "NEW 1/1 STARTED", "NEW 1/2 WAITING"]
    mdt.check(*swapped)


def test_of_two_records_of_a_fid_and_action_only_the_one_that_is_gone_ends(mdt: OneMdt) -> None:
    twins = [line(1, "SUCCEED"), line(2, fid="0x200000401:0x1:0x0")]
    mdt.poll(*twins)
    mdt.told()
    mdt.poll(twins[1])
    assert mdt.told() == ["PURGED 1/1 SUCCEED"]
    mdt.check(twins[1])


def test_a_cancel_ends_without_its_target(mdt: OneMdt) -> None:
    target, cancel = line(1), line(2, fid="0x200000401:0x1:0x0", action="CANCEL", cookie=0x6B020001)
    mdt.poll(target, cancel)
    mdt.told()
    mdt.poll(target)
    assert mdt.told() == ["PURGED 1/2 WAITING"]
    mdt.check(target)


def test_times_tell_when_an_action_and_its_status_were_first_seen(mdt: OneMdt) -> None:
    before = int(time.time())
    mdt.poll(line(1))
    (new,) = mdt.events()
    assert before <= new["timestamp"] == new["first_seen"] == new["status_since"] <= time.time()
    with_times = {"first_seen": new["first_seen"] - 500, "status_since": new["status_since"] - 300}
    mdt.client.delete(KEY)
    mdt.forget_told()
    mdt.client.xadd(KEY, {"data": msgspec.json.encode(new | with_times)})
    mdt.poll(line(1, "STARTED"))
    mdt.poll(line(1, "STARTED").replace(b"flags=0x0", b"flags=0x4"))
    mdt.poll()
    mdt.poll()
    first, second, purged = mdt.events()[1:]
    since = {event["first_seen"] for event in (first, second, purged)}
    assert since == {new["first_seen"] - 500}
    assert first["timestamp"] == first["status_since"] == second["status_since"] == purged["status_since"]
    assert purged["last_status"] == "STARTED"


# Lines of every kind


def test_lines_that_a_kernel_could_not_have_printed_are_passed_on_or_passed_over(mdt: OneMdt) -> None:
    listing = [
        line(1, "HALF_DONE", action="MIGRATE"),
        line(2) + b" owner=\xff\xfe",
        line(3) + b" " + b"x" * 70_000,
        line(4, cookie=2**64 - 1),
    ]
    hostile = [b"", b"\0" * 100, b"x" * 70_000, line(5).replace(b"idx=1/5", b"idx=99999999999/5")]
    result = mdt.poll(*listing, *hostile)
    assert (result.lines, result.lines_not_understood, result.events) == (8, 4, {"NEW": 4})
    mdt.check(*listing)
    assert mdt.poll(*listing, *hostile).events == {}


def test_without_raw_no_line_is_carried_and_none_is_sent_again(tmp_path: Path, client: redis.Redis) -> None:
    bare = OneMdt(tmp_path / "bare", client, include_raw=False)
    bare.poll(line(1), line(2))
    bare.poll(line(1, "STARTED"), line(2))
    events = bare.events()
    assert [(event["event_type"], "raw" in event, event["hash"]) for event in events] == [
        ("NEW", False, digest(line(1)).hex()),
        ("NEW", False, digest(line(2)).hex()),
        ("UPDATE", False, digest(line(1, "STARTED")).hex()),
    ]
    bare.check(line(1, "STARTED"), line(2))
    whole = OneMdt(tmp_path / "whole", client, include_raw=True)
    assert whole.poll(line(1, "STARTED"), line(2)).events == {}


# Many lines


def test_a_long_list_is_shipped_whole_and_in_order(mdt: OneMdt) -> None:
    listing = lines(range(1, 4001))
    mdt.poll(*listing)
    assert mdt.told() == [f"NEW 1/{rec} WAITING" for rec in range(1, 4001)]
    mdt.check(*listing)


def test_a_first_listing_is_shipped_while_it_is_still_read(tmp_path: Path, client: redis.Redis) -> None:
    shipped: list[int] = []

    class Watched(FaultyFile):
        def read(self, size: int, /) -> bytes:
            shipped.append(len(entries_of(client, KEY)))
            return super().read(size)

    mdt = OneMdt(tmp_path / "mds1", client, opener=lambda path: Watched(path))
    mdt.poll(*lines(range(1, 4001)))
    assert [count for count in shipped if 0 < count < 4000]


def test_more_changes_than_a_batch_holds_are_shipped_purges_first(mdt: OneMdt) -> None:
    count = 2 * BATCH_EVENTS + 10
    mdt.poll(*lines(range(1, count + 1)), *lines(range(10_001, 15_001)))
    mdt.told()
    listing = [*lines(range(10_001, 15_001), "STARTED")]
    mdt.poll(*listing)
    assert mdt.told() == [
        *(f"PURGED 1/{rec} WAITING" for rec in range(1, count + 1)),
        *(f"UPDATE 1/{rec} STARTED" for rec in range(10_001, 15_001)),
    ]
    mdt.check(*listing)


def test_a_batch_of_long_lines_is_shipped_in_pieces(tmp_path: Path, redis_server: RedisServer, redis_db: int) -> None:
    wire = Wire()
    mdt = OneMdt(tmp_path / "mds1", shipper_client(redis_server, redis_db, wire))
    mdt.poll(line(99))
    wire.sent.clear()
    long = [line(rec) + b" note=" + b"x" * 100_000 for rec in range(1, 21)]
    mdt.poll(*long, line(99))
    assert wire.sent.count("EVALSHA") > len(long) * 100_000 // BATCH_BYTES
    mdt.check(*long, line(99))


def test_a_catalogue_that_wrapped_is_listed_out_of_order_and_shipped_all_the_same(mdt: OneMdt) -> None:
    listing = [line(rec, cat=64767) for rec in range(1, 1501)] + [line(rec, cat=1) for rec in range(1, 1501)]
    result = mdt.poll(*listing)
    assert (result.events, result.lines_not_understood) == ({"NEW": 3000}, 0)
    mdt.check(*listing)


@pytest.mark.parametrize("count", [1, 1500], ids=["at once", "in another chunk"])
@pytest.mark.parametrize("known", [False, True], ids=["first reading", "later reading"])
def test_a_line_that_a_listing_holds_twice_is_one_action(mdt: OneMdt, count: int, known: bool) -> None:
    listing = lines(range(1, count + 1))
    if known:
        mdt.poll(line(99_999))
        mdt.told()
    end = [line(99_999)] if known else []
    for _ in range(3):
        mdt.poll(*listing, line(1), *end)
    assert mdt.told() == [f"NEW 1/{rec} WAITING" for rec in range(1, count + 1)]
    mdt.check(*listing, *end)


@pytest.mark.parametrize("count", [1, 1500], ids=["at once", "in another chunk"])
@pytest.mark.parametrize("known", [False, True], ids=["first reading", "later reading"])
def test_of_two_lines_for_a_place_the_first_counts(mdt: OneMdt, count: int, known: bool) -> None:
    listing = lines(range(1, count + 1))
    if known:
        mdt.poll(*listing)
    for _ in range(3):
        result = mdt.poll(*listing, line(1, "STARTED"))
        assert result.lines_not_understood == 1
    assert mdt.told() == [f"NEW 1/{rec} WAITING" for rec in range(1, count + 1)]
    mdt.check(*listing)


def test_a_long_listing_that_changes_here_and_there_is_said_as_it_is(mdt: OneMdt) -> None:
    """Several runs of blocks, of which some are what they were, in a random history that goes back now and then."""
    chance = Random(12)
    listings = [lines(range(1, 1201))]
    for _ in range(25):
        listing = list(chance.choice(listings[-3:]))
        for at in chance.sample(range(len(listing)), chance.choice([0, 1, 40])):
            record = parse_line(listing[at])
            assert record is not None
            listing[at] = line(record.place & 0xFFFF_FFFF, chance.choice(["WAITING", "STARTED", "SUCCEED"]))
        for _ in range(chance.choice([0, 0, 1, 5])):
            del listing[chance.randrange(len(listing) // 2)]
        if chance.random() < 0.5:
            listing += lines(range(5000 + 100 * len(listings), 5000 + 100 * len(listings) + chance.randrange(100)))
        listings.append(listing)
        mdt.poll(*listing)
        mdt.poll(*listing)  # the end of the list may be missing: it is believed when it is seen again
        mdt.check(*listing)


# What is remembered


def test_the_status_of_the_last_poll_is_in_the_state_file(mdt: OneMdt) -> None:
    before = time.time()
    mdt.poll(*lines([1, 2, 3]))
    mdt.poll(line(1, "STARTED"), line(2), b"?")
    status = mdt.replica.saved_status()
    assert status is not None
    assert (status.mdt, status.host, status.polls) == (MDT, HOST, 2)
    assert (status.lines, status.live, status.backlog, status.lines_not_understood) == (3, 3, 0, 1)
    assert (status.events_new, status.events_update, status.events_purged, status.events_shipped) == (3, 1, 0, 4)
    assert before <= status.last_poll_at <= time.time()
    assert status.last_poll_read_s is not None
    assert 0 < status.last_poll_read_s < status.last_poll_duration_s < 60
    assert (status.last_error, status.last_error_at, status.states_missed) == (None, None, 0)


def test_counters_go_on_after_a_restart(tmp_path: Path, mdt: OneMdt) -> None:
    mdt.poll(*lines([1, 2]))
    mdt.replica.close()
    again = OneMdt(tmp_path / "mds1", mdt.client)
    again.poll(*lines([1, 2, 3]))
    status = again.replica.saved_status()
    assert status is not None
    assert (status.polls, status.events_new) == (2, 3)


def test_an_error_is_remembered_after_it_is_over(mdt: OneMdt) -> None:
    mdt.poll(line(1))
    mdt.actions.unlink()
    mdt.poller.poll()
    mdt.poll(line(1))
    status = mdt.replica.saved_status()
    assert status is not None
    assert "No such file or directory" in (status.last_error or "")
    assert status.last_error_at is not None
    assert status.last_error_at < status.last_poll_at


def test_a_server_that_takes_long_for_a_batch_is_given_smaller_ones(
    tmp_path: Path, redis_server: RedisServer, redis_db: int
) -> None:
    wire = Wire()
    mdt = OneMdt(tmp_path / "mds1", shipper_client(redis_server, redis_db, wire))
    wire.append_takes_s = 40 * HELD_MAX_S  # far beyond a round trip on a busy machine, which is taken off
    listing = lines(range(1, 4001))
    mdt.poll(*listing)
    assert mdt.told() == [f"NEW 1/{rec} WAITING" for rec in range(1, 4001)]
    assert mdt.replica.batch.events == SMALLEST_EVENTS
    before = wire.sent.count("EVALSHA")
    changed = [*lines(range(1, 2001), "STARTED"), *lines(range(2001, 4001))]
    mdt.poll(*changed)
    assert wire.sent.count("EVALSHA") - before >= 2000 // SMALLEST_EVENTS
    mdt.check(*changed)


@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_first_listing_in_small_batches_is_whole_after_a_lost_reply(
    tmp_path: Path, redis_server: RedisServer, redis_db: int, after: int
) -> None:
    wire = Wire()
    mdt = OneMdt(tmp_path / "mds1", shipper_client(redis_server, redis_db, wire))
    mdt.replica.batch.events = SMALLEST_EVENTS
    listing = lines(range(1, 4001))
    mdt.shows(*listing)
    appends = itertools.count()

    def lose_one() -> None:
        if next(appends) == after:
            wire.lose_reply = True
        else:
            wire.before_append = lose_one

    wire.before_append = lose_one
    result = mdt.poller.poll()
    assert isinstance(result.error, StreamUnavailable) and result.backlog == 4000 - sum(result.events.values())
    mdt.poll(*listing)
    assert mdt.told() == [f"NEW 1/{rec} WAITING" for rec in range(1, 4001)]
    mdt.check(*listing)
