"""Catching up with a stream: from where we were, if that is still there, also while it is trimmed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from hsm_shipper.contract.fold import Entry
from hsm_shipper.errors import ReplayOvertaken, StateUnwritable, StreamUnavailable
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.stream.stream import ActionStream
from tests.support.core import KEY, OneMdt, add, earlier_event, line, lines
from tests.support.truth import entries_of

LISTING = lines([1, 2, 3])


def test_a_catch_up_reads_only_what_is_new_where_our_last_entry_is_still_there(
    tmp_path: Path, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    other = OneMdt(tmp_path / "mds2", client, host="mds2")
    mdt.poll(*LISTING)
    ours = entries_of(mdt.client, KEY)[-1][0]
    other.poll(*LISTING, line(4))
    add(mdt.client, b"{}")
    caplog.set_level(logging.INFO)
    mdt.poll(*LISTING, line(4))
    told = f"caught up with stream {KEY} from entry {ours}: 2 entries, 4 live actions, 1 malformed entries"
    assert told in caplog.messages


class InterruptedStream(ActionStream):
    """A stream whose server goes away, as often as `failures` says, behind the first page of a replay."""

    failures = 0

    def replay(self, *arguments: Any, **options: Any) -> Iterator[list[Entry]]:
        for page in super().replay(*arguments, **options):
            yield page
            if self.failures:
                self.failures -= 1
                raise StreamUnavailable("the server is gone")


def test_a_catch_up_that_is_interrupted_leaves_what_was_known(tmp_path: Path, client: redis.Redis) -> None:
    mdt = OneMdt(tmp_path / "mds1", client, stream_class=InterruptedStream)
    mdt.poll(*LISTING)
    known = mdt.known_rows()
    OneMdt(tmp_path / "mds2", client, host="mds2").poll(*LISTING, line(4))
    assert isinstance(mdt.stream, InterruptedStream)
    mdt.stream.failures = 1
    assert isinstance(mdt.poller.poll().error, StreamUnavailable)
    assert mdt.known_rows() == known
    assert mdt.poll(*LISTING, line(4)).events == {}


def test_what_cannot_be_kept_is_not_said_to_be_caught_up_with(
    tmp_path: Path, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mdt = OneMdt(tmp_path / "mds1", client)
    mdt.poll(*LISTING)
    OneMdt(tmp_path / "mds2", client, host="mds2").poll(*LISTING, line(4))
    caplog.set_level(logging.INFO)
    transaction = StateFile.transaction

    @contextlib.contextmanager
    def full_at_commit(state: StateFile) -> Iterator[None]:
        with transaction(state):
            yield
            raise StateUnwritable("cannot write state file: database or disk is full")

    with monkeypatch.context() as full:
        full.setattr(StateFile, "transaction", full_at_commit)
        for _ in range(2):
            assert isinstance(mdt.poller.poll().error, StateUnwritable)
    assert not any("caught up" in message for message in caplog.messages)
    mdt.poll(*LISTING, line(4))
    assert sum("caught up" in message for message in caplog.messages) == 1


class OvertakenStream(ActionStream):
    """A stream that is trimmed, as often as `trims` says, while the first page of a replay is looked at."""

    trims = 0

    def replay(self, *arguments: Any, **options: Any) -> Iterator[list[Entry]]:
        first = True
        for page in super().replay(*arguments, **options):
            yield page
            if first and self.trims:
                self.trims -= 1
                # Beyond the page that is asked for already.
                further = entries_of(self._client, self.key, page[-1][0].decode())[2500][0]
                self._client.xtrim(self.key, minid=further, approximate=False)
            first = False


@pytest.mark.parametrize(("trims", "error"), [(1, None), (4, None), (5, ReplayOvertaken)])
@pytest.mark.parametrize("known", [False, True], ids=["from its beginning", "from where we were"])
def test_a_catch_up_that_a_trim_overtakes_starts_again(
    tmp_path: Path, client: redis.Redis, trims: int, error: type[Exception] | None, known: bool
) -> None:
    mdt = OneMdt(tmp_path, client, stream_class=OvertakenStream)
    if known:
        mdt.poll(line(1))
    pipe = client.pipeline(transaction=False)
    for number in range(20_000):
        pipe.xadd(KEY, {"data": msgspec.json.encode(earlier_event(line(1, f"STATE{number}"), "UPDATE"))})
    pipe.execute()
    assert isinstance(mdt.stream, OvertakenStream)
    mdt.stream.trims = trims
    mdt.shows(line(1, "STATE19999"))
    assert type(mdt.poller.poll().error) is (error or type(None))
    before = client.xlen(KEY)
    assert mdt.poll(line(1, "STATE19999")).events == {}
    assert client.xlen(KEY) == before
