"""Polls of listings that cannot be trusted: what is taken from them, and what is purged."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import redis

from hsm_shipper.errors import ActionsError
from hsm_shipper.lustre.kernel_file import RawFile, open_raw
from tests.support.core import OneMdt, Opener, add, line, lines

LISTING = lines(range(1, 7))
NEW_FORMAT = b"lrh=[type=10680000 len=136 idx=1/%d] a kernel that prints something new"


@pytest.fixture
def mdt(mdt: OneMdt) -> OneMdt:
    """An MDT whose six actions are in the stream."""
    mdt.poll(*LISTING)
    mdt.told()
    return mdt


def poll_incomplete(mdt: OneMdt, *listing: bytes) -> list[str]:
    """What a poll tells that cannot read its listing to the end."""
    mdt.shows(*listing)
    assert isinstance(mdt.poller.poll().error, ActionsError)
    return mdt.told()


# Incomplete readings


@pytest.mark.parametrize(
    ("after_bytes", "error", "told"),
    [
        (0, errno.ENOENT, []),
        (0, errno.EBADR, []),
        (500, errno.EIO, ["UPDATE 1/1 STARTED", "NEW 1/7 WAITING"]),
        (10_000, errno.ENOENT, ["UPDATE 1/1 STARTED", "NEW 1/7 WAITING", "NEW 1/8 WAITING"]),
    ],
    ids=["at the first read", "while records are added", "in the middle", "at the last read"],
)
def test_an_error_purges_nothing_and_takes_what_came_before_it(
    mdt: OneMdt, opener: Opener, after_bytes: int, error: int, told: list[str]
) -> None:
    listing = [line(1, "STARTED"), *lines([7, 8])]
    opener.fail_after(after_bytes, error)
    assert poll_incomplete(mdt, *listing) == told
    mdt.poll(*LISTING, *lines([7, 8]))
    mdt.check(*LISTING, *lines([7, 8]))


def test_a_file_that_is_not_there_purges_nothing(mdt: OneMdt) -> None:
    mdt.actions.unlink()
    for _ in range(3):
        result = mdt.poller.poll()
        assert isinstance(result.error, ActionsError)
    assert mdt.told() == []
    assert mdt.poll(*LISTING).events == {}


def test_a_torn_last_line_purges_nothing(mdt: OneMdt) -> None:
    mdt.actions.write_bytes(line(1, "STARTED") + b"\n" + line(2)[:50])
    for _ in range(3):
        assert isinstance(mdt.poller.poll().error, ActionsError)
    assert mdt.told() == ["UPDATE 1/1 STARTED"]
    mdt.check(line(1, "STARTED"), *LISTING[1:])


def test_a_place_seen_holding_another_action_ends_its_old_one_in_an_incomplete_reading_too(
    mdt: OneMdt, opener: Opener
) -> None:
    successor = line(1, cookie=9)
    opener.fail_after(len(successor) + 1, errno.EIO)
    assert poll_incomplete(mdt, successor) == ["PURGED 1/1 WAITING", "NEW 1/1 WAITING"]
    mdt.check(successor, *LISTING[1:])


def test_a_first_reading_that_fails_takes_what_came_before_it(
    tmp_path: Path, client: redis.Redis, opener: Opener
) -> None:
    mdt = OneMdt(tmp_path / "mds1", client, opener=opener)
    opener.fail_after(len(line()) + 1, errno.EIO)
    assert poll_incomplete(mdt, *LISTING) == ["NEW 1/1 WAITING"]
    mdt.poll(*LISTING)
    mdt.check(*LISTING)


def test_an_incomplete_reading_is_no_error_once_a_complete_one_took_its_place(mdt: OneMdt, opener: Opener) -> None:
    mdt.client.flushdb()
    opener.fail_after(0, errno.EIO)
    mdt.shows(*LISTING)
    result = mdt.poller.poll()  # its first reading met the flush, and was thrown away
    mdt.check(*LISTING)
    assert result.error is None


# Readings that look wrong


def test_an_empty_listing_is_believed_at_its_second_reading(mdt: OneMdt) -> None:
    mdt.poll()
    assert mdt.told() == []
    mdt.poll()
    assert mdt.told() == [f"PURGED 1/{rec} WAITING" for rec in range(1, 7)]
    mdt.check()


def test_a_listing_that_is_not_believed_yet_is_said_to_be_so(mdt: OneMdt, caplog: pytest.LogCaptureFixture) -> None:
    mdt.poll(*lines(range(1, 21)))
    caplog.set_level(logging.INFO)
    result = mdt.poll()
    assert result.remark == "20 of 20 live actions are missing"
    assert mdt.poll().remark is None, "they are purged now"
    assert caplog.messages[:1] == [
        "20 of 20 live actions are missing: 0 of them are purged, 20 once another complete reading misses them too"
    ]


def test_a_short_list_that_loses_most_of_itself_is_nothing_to_say(
    mdt: OneMdt, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for left in (1, 1, 0, 0):
        mdt.poll(*LISTING[:left])
    assert [message for message in caplog.messages if "another complete reading" in message] == []
    mdt.check()


def test_a_kernel_that_is_busy_twice_in_a_row_is_no_error(
    mdt: OneMdt, opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        opener.fail_after(0, errno.EBADR)
        assert poll_incomplete(mdt, *LISTING) == []
    mdt.poll(*LISTING)
    assert [(record.levelname, record.getMessage()[:30]) for record in caplog.records] == [
        ("INFO", "incomplete reading of " + str(mdt.actions)[:8]),
        ("INFO", "the actions file: recovered af"),
    ]


def test_a_file_that_stays_unreadable_is_an_error(mdt: OneMdt, caplog: pytest.LogCaptureFixture) -> None:
    mdt.actions.unlink()
    for _ in range(3):
        mdt.poller.poll()
    [said] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "No such file or directory" in said.getMessage() and "still; 3 times" in said.getMessage()


def test_an_empty_listing_that_was_none_purges_nothing(mdt: OneMdt) -> None:
    for _ in range(3):
        mdt.poll()
        mdt.poll(*LISTING)
    assert mdt.told() == []
    mdt.check(*LISTING)


def test_a_listing_cut_short_is_believed_at_its_second_reading(mdt: OneMdt) -> None:
    many = lines(range(1, 101))
    mdt.poll(*many)
    mdt.told()
    mdt.poll(*many[:89])
    assert mdt.told() == []
    mdt.poll(*many[:89])
    assert mdt.told() == [f"PURGED 1/{rec} WAITING" for rec in range(90, 101)]
    mdt.check(*many[:89])


def test_new_lines_of_a_doubtful_listing_are_told_at_once(mdt: OneMdt) -> None:
    mdt.poll(line(1, "STARTED"), line(9))
    assert mdt.told() == ["UPDATE 1/1 STARTED", "NEW 1/9 WAITING"]
    mdt.check(line(1, "STARTED"), *LISTING[1:], line(9))


def test_what_was_missed_once_and_seen_again_must_be_missed_twice_more(mdt: OneMdt) -> None:
    for listing in ([], LISTING[:3], LISTING[:1]):
        mdt.poll(*listing)
    assert mdt.told() == ["PURGED 1/4 WAITING", "PURGED 1/5 WAITING", "PURGED 1/6 WAITING"]
    mdt.poll(*LISTING[:3])
    mdt.check(*LISTING[:3])


def test_what_was_missed_is_remembered_by_the_next_process(mdt: OneMdt, tmp_path: Path) -> None:
    mdt.poll()
    mdt.replica.close()
    again = OneMdt(tmp_path / "mds1", mdt.client)
    again.poll()
    assert mdt.told() == [f"PURGED 1/{rec} WAITING" for rec in range(1, 7)]


def test_what_was_missed_is_forgotten_when_the_stream_moved(mdt: OneMdt) -> None:
    mdt.poll()
    add(mdt.client, b"{}")
    mdt.poll()
    assert mdt.events() == [{}]
    mdt.poll()
    assert len(mdt.told()) == 6


def test_an_incomplete_reading_between_two_empty_ones_does_not_count(mdt: OneMdt, opener: Opener) -> None:
    mdt.poll()
    opener.fail_after(0, errno.EIO)
    assert poll_incomplete(mdt) == []
    mdt.poll()
    assert len(mdt.told()) == 6


def test_a_list_that_shrinks_step_by_step_settles(mdt: OneMdt) -> None:
    for left in (5, 2, 1, 0, 0):
        mdt.poll(*LISTING[:left])
    assert sorted(mdt.told()) == [f"PURGED 1/{rec} WAITING" for rec in range(1, 7)]
    mdt.check()


def test_a_line_that_is_never_understood_keeps_its_place_and_settles_the_others(mdt: OneMdt) -> None:
    odd = [*LISTING[:3], NEW_FORMAT % 4, *LISTING[4:]]
    for _ in range(3):
        result = mdt.poll(*odd)
    assert (mdt.told(), result.lines_not_understood) == ([], 1)
    mdt.poll(*odd[:-1])
    assert mdt.told() == []
    mdt.poll(*odd[:-1])
    assert mdt.told() == ["PURGED 1/6 WAITING"]
    mdt.check(*LISTING[:5])


def test_lines_that_are_not_understood_are_reported_once_with_an_example(
    mdt: OneMdt, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        mdt.poll(*LISTING, b"\x1b[2J odd", b"odder")
    said = [message for message in caplog.messages if "not understood" in message]
    assert len(said) == 1
    assert "2 of 8 lines" in said[0]
    assert said[0].endswith(r"\x1b[2J odd")


def test_a_listing_mostly_not_understood_purges_nothing(mdt: OneMdt) -> None:
    for _ in range(3):
        result = mdt.poll(*[b"?"] * 4, line(1), line(2))
    assert mdt.told() == []
    assert result.remark == "4 of 6 lines are not understood"


@pytest.mark.parametrize("state", ["init", "stopping"])
def test_while_the_coordinator_comes_or_goes_nothing_is_purged(mdt: OneMdt, state: str) -> None:
    mdt.hsm_control = state
    for _ in range(3):
        mdt.poll(*LISTING[:5], line(9))
    assert mdt.told() == ["NEW 1/9 WAITING"]
    mdt.hsm_control = "enabled"
    mdt.poll(*LISTING[:5], line(9))
    assert mdt.told() == ["PURGED 1/6 WAITING"]


@pytest.mark.parametrize("state", ["enabled", "stopped", "disabled", None])
def test_in_every_other_state_of_the_coordinator_what_is_gone_is_purged(mdt: OneMdt, state: str | None) -> None:
    mdt.hsm_control = state
    mdt.poll(*LISTING[:5])
    assert mdt.told() == ["PURGED 1/6 WAITING"]


def test_a_coordinator_that_stops_while_the_file_is_read_purges_nothing(mdt: OneMdt, opener: Opener) -> None:
    def stopping(path: Path) -> RawFile:
        mdt.hsm_control = "stopping"
        return open_raw(path)

    opener.next = stopping
    mdt.poll(*LISTING[:5])
    assert mdt.told() == []
