"""The heartbeat of a worker that cannot use its state file or its stream: it polls, and says what is wrong."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
import redis

from hsm_shipper.config import Config
from hsm_shipper.contract.heartbeat import Heartbeat, decode
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_shipper.errors import StateUnwritable
from hsm_shipper.migrations import SET
from hsm_shipper.state.poll_status import state_file
from hsm_shipper.state.state_file import StateFile
from hsm_shipper.worker.heartbeat_writer import HeartbeatWriter
from hsm_shipper.worker.main import run
from hsm_shipper.worker.poll_result import PollResult
from tests.support.core import KEY, MDT, FullDisk, OneMdt, lines
from tests.support.polls import Polls
from tests.support.servers import RedisServer
from tests.support.waiting import DEADLINE_S

LISTING = lines(range(1, 41))


def told(client: redis.Redis) -> Heartbeat:
    """What the heartbeat says; it is taken away, so that only a later one can be read again."""
    data = cast("bytes | None", client.getdel(heartbeat_key("hsm:actions", MDT)))
    found = None if data is None else decode(data)
    assert found is not None, "no heartbeat"
    return found


def no_file(state: Path) -> None:
    """A folder, and none that could be set aside: as where the disk has no room for what SQLite keeps beside it."""
    for path in state.parent.glob(f"{state.name}*"):
        path.unlink()
    state.mkdir()
    (state.with_name(f"{state.name}.broken") / "kept").mkdir(parents=True)


def a_newer_release(state: Path) -> None:
    kept = state.read_bytes()
    state.unlink()
    state.write_bytes(kept)
    with closing(sqlite3.connect(state)) as connection, connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, 'to come', '')", [SET]
        )


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer, redis_db: int) -> Config:
    return Config(
        redis_host=redis_server.host, redis_port=redis_server.port, redis_db=redis_db, host="mds1",
        state_dir=str(tmp_path / "state"),
    )  # fmt: skip


@pytest.fixture
def polls(config: Config, tmp_path: Path) -> Iterator[Polls]:
    """Those of a worker; the first one is over."""
    actions = tmp_path / "actions"
    actions.write_bytes(b"".join(data + b"\n" for data in LISTING))
    polls = Polls()
    worker = threading.Thread(target=run, args=[config, MDT, actions, polls], daemon=True)
    worker.start()
    polls.begun()
    yield polls
    polls.end()
    worker.join(DEADLINE_S)


@pytest.mark.parametrize("trouble", [no_file, a_newer_release], ids=lambda trouble: str(trouble.__name__))
def test_it_goes_on_with_the_error_and_what_was_known(
    config: Config, client: redis.Redis, polls: Polls, trouble: Callable[[Path], None]
) -> None:
    well = told(client)
    assert (well.lines, well.live, well.last_error) == (40, 40, None)
    trouble(state_file(config.state_path, MDT))
    before = well.last_poll_at
    for _ in range(3):
        polls.next()
        beat = told(client)
        assert beat.last_error is not None and "state file" in beat.last_error
        assert (beat.lines, beat.live) == (40, 40)
        assert beat.last_poll_at > before
        before = beat.last_poll_at


def test_it_tells_of_a_stream_that_is_refused(client: redis.Redis, polls: Polls) -> None:
    told(client)
    client.set(KEY, "another program's")
    polls.next()
    beat = told(client)
    assert beat.last_error is not None and KEY in beat.last_error and beat.lines == 40


def test_a_full_disk_is_in_it(mdt: OneMdt, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    mdt.poll(*LISTING)
    disk.fill()
    mdt.shows(*LISTING, *lines(range(100, 1000)))
    pulse = HeartbeatWriter(client, Config(), MDT, mdt.actions)
    for _ in range(3):
        beat = beat_after(pulse, client, mdt.poller.poll())
        assert beat.last_error is not None and "make room" in beat.last_error
        assert (beat.lines, beat.live) == (940, 40)
    disk.make_room()
    assert beat_after(pulse, client, mdt.poller.poll()).last_error is None


def beat_after(pulse: HeartbeatWriter, client: redis.Redis, result: PollResult) -> Heartbeat:
    """What the heartbeat says after a poll."""
    assert result.status is not None
    pulse.beat(result.status)
    return told(client)


def test_a_status_that_cannot_be_left_is_in_it(
    mdt: OneMdt, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that does not change writes nothing else."""
    mdt.poll(*LISTING)

    def full(*_: object) -> None:
        raise StateUnwritable("cannot write state file: database or disk is full")

    monkeypatch.setattr(StateFile, "save_poll_status", full)
    beat = beat_after(HeartbeatWriter(client, Config(), MDT, mdt.actions), client, mdt.poller.poll())
    assert beat.last_error is not None and "disk is full" in beat.last_error
    assert (beat.lines, beat.live) == (40, 40)
