"""Entries that another hand trims or deletes inside a stream, whose end stays as it was: the next poll heals them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from hsm_shipper.state.rows import has_entry_before
from hsm_shipper.stream.stream import ActionStream
from tests.support.core import KEY, OneMdt, Wire, line, lines
from tests.support.truth import entries_of

LISTING = lines(range(1, 11))
LATER = [line(1, "STARTED"), *LISTING[1:], line(50)]


def ids(client: redis.Redis) -> list[str]:
    return [entry_id for entry_id, _ in entries_of(client, KEY)]


def front_trimmed(client: redis.Redis) -> None:
    client.xtrim(KEY, maxlen=4, approximate=False)


def all_trimmed(client: redis.Redis) -> None:
    client.xtrim(KEY, maxlen=0, approximate=False)


def one_deleted(client: redis.Redis) -> None:
    client.xdel(KEY, ids(client)[5])


def first_deleted(client: redis.Redis) -> None:
    client.xdel(KEY, ids(client)[0])


def two_deleted_behind_an_earlier_deletion(client: redis.Redis) -> None:
    """The highest deleted id tells nothing of these, and the first entry is another one."""
    client.xdel(KEY, *ids(client)[:2])


LOSSES = [front_trimmed, all_trimmed, one_deleted, first_deleted]
ANY_LOSS = pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
BOTH = pytest.mark.parametrize("listing", [LISTING, LATER], ids=["quiet", "busy"])
RESTARTED = pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])


@ANY_LOSS
@BOTH
@RESTARTED
def test_the_next_poll_appends_again_what_was_lost(
    mdt: OneMdt, client: redis.Redis, lose: Callable[[redis.Redis], None], listing: list[bytes], restarted: bool
) -> None:
    mdt.poll(*LISTING)
    lose(client)
    if restarted:
        mdt.replica.close()
    mdt.poll(*listing)
    mdt.check(*listing)
    length = client.xlen(KEY)
    assert mdt.poll(*listing).events == {}
    assert client.xlen(KEY) == length


def test_a_deletion_below_an_earlier_one_is_seen_as_well(mdt: OneMdt, client: redis.Redis) -> None:
    mdt.poll(*LISTING)
    client.xdel(KEY, ids(client)[8])
    mdt.poll(*LISTING)
    two_deleted_behind_an_earlier_deletion(client)
    mdt.poll(*LISTING)
    mdt.check(*LISTING)


@RESTARTED
def test_a_trim_of_what_nothing_needs_costs_no_catch_up(
    mdt: OneMdt, client: redis.Redis, wire: Wire, caplog: pytest.LogCaptureFixture, restarted: bool
) -> None:
    mdt.poll(*LISTING)
    mdt.poll(*LISTING[5:])
    mdt.poll(*LISTING[5:])  # the first five have left it
    client.xtrim(KEY, minid=ids(client)[5], approximate=False)
    if restarted:
        mdt.replica.close()
    caplog.clear()
    wire.sent.clear()
    assert mdt.poll(*LISTING[5:]).events == {}
    assert "XRANGE" not in wire.sent
    mdt.check(*LISTING[5:])


def test_what_was_lost_is_told(mdt: OneMdt, client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    mdt.poll(*LISTING)
    front_trimmed(client)
    first_id = ids(client)[0]
    caplog.set_level("WARNING")
    mdt.poll(*LISTING)
    assert caplog.messages == [
        f"stream {KEY} at redis://test has lost entries that somebody else trimmed or deleted: 4 are left, the first "
        f"{first_id}, the highest deleted 0-0: catching up"
    ]


def test_a_loss_while_a_batch_is_on_its_way_is_found_after_it(mdt: OneMdt, client: redis.Redis, wire: Wire) -> None:
    mdt.poll(*LISTING)
    wire.before_append = lambda: front_trimmed(client)
    mdt.poll(*LATER)
    mdt.check(*LATER)


def test_a_crash_before_the_catch_up_forgets_no_loss(
    mdt: OneMdt, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    mdt.poll(*LISTING)
    front_trimmed(client)
    with monkeypatch.context() as patched:
        patched.setattr(ActionStream, "replay", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        mdt.shows(*LATER)
        with pytest.raises(KeyboardInterrupt):
            mdt.poller.poll()
    mdt.replica.close()
    mdt.poll(*LATER)
    mdt.check(*LATER)


def test_a_state_file_of_an_earlier_release_learns_what_the_stream_holds(mdt: OneMdt, client: redis.Redis) -> None:
    mdt.poll(*LISTING)
    with contextlib.closing(sqlite3.connect(mdt.state)) as connection, connection:
        connection.execute(
            "UPDATE stream_position SET first_entry_id = NULL, entries = NULL, max_deleted_entry_id = NULL"
        )
    assert mdt.poll(*LISTING).events == {}
    one_deleted(client)
    assert mdt.poll(*LISTING).events == {"NEW": 1}
    mdt.check(*LISTING)


@pytest.mark.parametrize(
    ("entry_id", "before"),
    [("9-0", False), ("10-2", False), ("10-3", True), ("10-10", True), ("11-0", True), ("1000-0", True), (None, True)],
)
def test_entries_before_an_id_are_found_by_number(path: Path, entry_id: str | None, before: bool) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE actions (entry_id TEXT)")
        connection.executemany(
            "INSERT INTO actions VALUES (?)", [("10-2",), ("18446744073709551615-18446744073709551615",), (None,)]
        )
        assert has_entry_before(connection, entry_id) is before
