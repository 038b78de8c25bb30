"""Replaying a stream of a real server page by page."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import redis

from hsm_shipper.contract.fold import Entry
from hsm_shipper.contract.stream_head import Head
from hsm_shipper.contract.stream_ids import EMPTY_ID, pack_id
from hsm_shipper.errors import ReplayOvertaken
from hsm_shipper.stream.page_reader import PAGE_ENTRIES
from hsm_shipper.stream.replay import Replay
from hsm_shipper.stream.stream import ActionStream
from tests.support.core import KEY, digest, earlier_event, line


@pytest.fixture
def stream(client: redis.Redis) -> ActionStream:
    return ActionStream(client, KEY, "redis://test")


def ids_of(entries: list[Entry]) -> list[str]:
    """The ids of entries."""
    return [entry_id.decode() for entry_id, _ in entries]


def filled(client: redis.Redis, count: int) -> list[str]:
    """Append `count` entries behind the back of the stream; their ids."""
    pipe = client.pipeline(transaction=False)
    for number in range(count):
        pipe.xadd(KEY, {"data": b"%d" % number}, id=f"{number + 1}-0")
    return [entry_id.decode() for entry_id in pipe.execute()]


def taken(pages: Iterator[list[Entry]], count: int) -> list[Entry]:
    """The next pages, until so many entries are read."""
    entries: list[Entry] = []
    while len(entries) < count:
        entries += next(pages)
    return entries


def replayed(stream: ActionStream, until: str, after: str | None = None) -> list[Entry]:
    """All entries of a replay."""
    return [entry for page in stream.replay(until, after) for entry in page]


@pytest.mark.parametrize(
    "count", [0, 1, PAGE_ENTRIES - 1, PAGE_ENTRIES, PAGE_ENTRIES + 1, 2 * PAGE_ENTRIES - 1, 2 * PAGE_ENTRIES]
)
def test_a_replay_reads_every_entry_once(client: redis.Redis, stream: ActionStream, count: int) -> None:
    ids = filled(client, count)
    read = replayed(stream, stream.head().last_id)
    assert read == [(entry_id.encode(), b"%d" % number) for number, entry_id in enumerate(ids)]


def test_a_replay_ends_where_it_shall(client: redis.Redis, stream: ActionStream) -> None:
    ids = filled(client, 5)
    assert ids_of(replayed(stream, ids[2])) == ids[:3]


def test_a_replay_goes_on_behind_an_entry(client: redis.Redis, stream: ActionStream) -> None:
    ids = filled(client, 1500)
    assert ids_of(replayed(stream, ids[-1], ids[2])) == ids[3:]
    assert replayed(stream, ids[-1], ids[-1]) == []


@pytest.mark.parametrize("count", [3, PAGE_ENTRIES])
def test_a_replay_ends_though_its_last_entry_was_deleted(client: redis.Redis, stream: ActionStream, count: int) -> None:
    ids = filled(client, count + 1)
    client.xdel(KEY, ids[-1])
    assert ids_of(replayed(stream, ids[-1])) == ids[:-1]


def test_an_entry_without_the_field_is_given_on_without_data(client: redis.Redis, stream: ActionStream) -> None:
    client.xadd(KEY, {"other": "x"}, id="1-0")
    assert replayed(stream, "1-0") == [(b"1-0", None)]


def test_a_trim_that_overtakes_a_replay_is_noticed(client: redis.Redis, stream: ActionStream) -> None:
    ids = filled(client, 3500)
    pages = stream.replay(ids[-1])
    assert len(taken(pages, PAGE_ENTRIES)) == PAGE_ENTRIES
    client.xtrim(KEY, maxlen=100, approximate=False)  # the second page is on its way, the third is not asked for yet
    with pytest.raises(ReplayOvertaken):
        list(pages)


def test_a_trim_behind_a_replay_is_no_matter(client: redis.Redis, stream: ActionStream) -> None:
    ids = filled(client, 2500)
    pages = stream.replay(ids[-1])
    read = taken(pages, PAGE_ENTRIES)
    client.xtrim(KEY, minid=ids[PAGE_ENTRIES - 1], approximate=False)
    assert ids_of(read + [entry for page in pages for entry in page]) == ids


def test_a_last_entry_of_a_page_that_is_deleted_meanwhile_is_noticed(client: redis.Redis, stream: ActionStream) -> None:
    ids = filled(client, 3500)
    pages = stream.replay(ids[-1])
    taken(pages, PAGE_ENTRIES)
    client.xdel(KEY, taken(pages, PAGE_ENTRIES - 1)[-1][0], ids[2997])  # whichever of the next two pages is on its way
    with pytest.raises(ReplayOvertaken):
        list(pages)


@pytest.mark.parametrize("after", ["2-0", "9-0"], ids=["deleted", "never there"])
def test_a_replay_behind_an_entry_that_is_gone_is_overtaken(
    client: redis.Redis, stream: ActionStream, after: str
) -> None:
    client.xdel(KEY, filled(client, 5)[1])
    with pytest.raises(ReplayOvertaken):
        replayed(stream, "10-0", after)


def test_a_newest_entry_is_held_only_with_its_content(client: redis.Redis, stream: ActionStream) -> None:
    ids = filled(client, 3)
    head = stream.head()
    assert stream.holds(head)
    client.xadd(KEY, {"data": b"c"})
    assert stream.holds(head)
    assert not stream.holds(Head(EMPTY_ID, None, None))
    assert not stream.holds(head._replace(newest_sha1="0" * 40))
    client.xdel(KEY, ids[-1])
    assert not stream.holds(head)


def test_ids_sort_by_number() -> None:
    assert sorted(["10-0", "9-10", "9-9"], key=pack_id) == ["9-9", "9-10", "10-0"]


# Folded without the digests of our own lines


def upgraded(client: redis.Redis, ended: bytes) -> None:
    """Append what our shipper says of `line(1)`, then the end of `ended`, as an earlier shipper tells it."""
    ours = earlier_event(line(1)) | {"cookie": "0x6b020001", "first_seen": 1, "status_since": 1, "host": "mds1"}
    end = {**earlier_event(ended, "PURGED"), "status": "PURGED", "hash": digest(ended).hex(), "raw": None}
    for number, event in enumerate((ours, end), 1):
        client.xadd(KEY, {"data": msgspec.json.encode(event)}, id=f"{number}-0")


@pytest.mark.parametrize(("ended", "live"), [(line(1), 0), (line(1, cookie=9), 1)], ids=["its own", "another's"])
@pytest.mark.parametrize("digests", [False, True])
def test_an_earlier_shippers_end_of_our_action_goes_by_the_line(
    client: redis.Redis, stream: ActionStream, ended: bytes, live: int, digests: bool
) -> None:
    upgraded(client, ended)
    replay = Replay(stream, digests=digests)
    replay.go_on("2-0")
    assert (len(replay.live), replay.entries, replay.malformed) == (live, 2, 0)


def test_a_line_that_is_trimmed_when_it_is_asked_for_begins_the_replay_again(
    client: redis.Redis, stream: ActionStream
) -> None:
    upgraded(client, line(1, cookie=9))
    pages = []

    def trim(page: list[Entry]) -> None:
        pages.append(ids_of(page))
        client.xtrim(KEY, minid="2-0", approximate=False)

    replay = Replay(stream, trim, digests=False)
    replay.go_on("2-0")
    assert (pages, len(replay.live), replay.entries) == ([["1-0", "2-0"], ["2-0"]], 0, 1)
