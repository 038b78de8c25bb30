"""Maintenance, and quiet points."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import HsmError, StateError, StreamBehind
from hsm_shipper.maintenance.reconcile import StateFileHealer
from hsm_shipper.stream.stream import ActionStream
from tests.faults.model.drawn import any_worker
from tests.faults.model.life import Life, Mdt
from tests.faults.model.redis_model import RedisModel
from tests.faults.model.referee import Wrong


def maintain(life: Life, rng: random.Random) -> str:
    """A cycle: whatever it does, what the stream says stays what it was."""
    worker = any_worker(life, rng)
    before, calm = dict(worker.mdt.referee.fold.live), life.machine.fault is None
    needed = _needed_by_group(life, worker.mdt)
    result = life.maintain(worker, threshold=rng.choice((1, 5, 1000)))
    if calm and needed != _needed_by_group(life, worker.mdt):
        raise Wrong("maintenance trimmed what a consumer group needs")
    if calm and before != worker.mdt.referee.fold.live:
        raise Wrong("maintenance changed what the stream says")
    life.check_remainders()
    return str(result)


def _needed_by_group(life: Life, mdt: Mdt) -> list[int]:
    """The entries that the group has pending, or was not given yet."""
    stream = life.stream(mdt)
    if stream is None or b"g" not in stream.groups:
        return []
    group = stream.groups[b"g"]
    return [entry for entry in stream.ids if entry > group.last_delivered or entry in group.pending]


def maintain_at_a_server_that_is_behind(life: Life, rng: random.Random) -> str | None:
    """An old primary that came back, or one that knows of nothing: nothing that is known changes."""
    worker = any_worker(life, rng)
    if life.machine.fault is not None:
        return None
    try:
        with closing(StateFileHealer(worker.state_path)) as state:
            position = state.position()
    except HsmError:
        return None
    behind = RedisModel(lambda: life.machine.now_s)
    behind.streams = {key: stream.copy() for key, stream in (life.remembered or {}).items()}
    stream = behind.streams.get(worker.mdt.key)
    if (stream.last if stream is not None else 0) >= pack_id(position.last_id):
        return None
    before = _content(worker.state_path)
    other = ActionStream(life.client(behind), worker.mdt.key.decode(), "the server that is behind")
    result = life.maintain(worker, stream=other)
    if not isinstance(result, (StreamBehind, StateError)):
        raise Wrong(f"a server that is behind was not noticed: {result}")
    if worker.state_path.exists() and before != _content(worker.state_path):
        raise Wrong(f"a server that is behind was believed: {result}")
    return str(result)


def _content(path: Path) -> list[tuple[object, ...]] | str:
    try:
        with closing(sqlite3.connect(path)) as database:
            return (
                database.execute("SELECT * FROM actions").fetchall()
                + database.execute("SELECT * FROM stream_position").fetchall()
            )
    except sqlite3.Error as error:
        return str(error)


def quiet(life: Life, rng: random.Random) -> str:
    """Everything goes well for a few polls: now the stream has to be true."""
    for mdt in life.mdts:
        life.settle(mdt, at_once=rng.random() < 0.7)
        if rng.random() < 0.3:
            life.check_maintenance(mdt)
    return ", ".join(f"{mdt.name} {len(mdt.lines)} live, {len(life.stream(mdt) or ())} entries" for mdt in life.mdts)
