"""Maintenance, and quiet points."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from hsm_shipper.contract.stream_head import Head
from hsm_shipper.contract.stream_ids import pack_id
from hsm_shipper.errors import HsmError, StateCorrupt, StateError, StreamBehind, StreamMoved
from hsm_shipper.maintenance.cycle import CycleResult
from hsm_shipper.maintenance.reconcile import StateFileHealer
from hsm_shipper.stream.stream import ActionStream
from tests.faults.model.drawn import any_worker, is_settled
from tests.faults.model.life import Life, Mdt, Worker
from tests.faults.model.list_steps import set_status
from tests.faults.model.machine import Fault
from tests.faults.model.redis_model import RedisModel
from tests.faults.model.redis_steps import delete
from tests.faults.model.referee import Wrong


def maintain(life: Life, rng: random.Random) -> str:
    """A cycle: whatever it does, what the stream says stays what it was."""
    worker = any_worker(life, rng)
    before, calm = dict(worker.mdt.referee.fold.live), life.machine.fault is None
    needed = _needed_by_groups(life, worker.mdt)
    result = life.maintain(worker, threshold=rng.choice((1, 5, 1000)))
    if calm and needed != _needed_by_groups(life, worker.mdt):
        raise Wrong("maintenance trimmed what a consumer group needs")
    if calm and before != worker.mdt.referee.fold.live:
        raise Wrong("maintenance changed what the stream says")
    life.check_remainders()
    return str(result)


def _needed_by_groups(life: Life, mdt: Mdt) -> set[int]:
    """The entries that a group has pending, or was not given yet."""
    stream = life.stream(mdt)
    groups = [] if stream is None else stream.groups.values()
    there = [] if stream is None else stream.ids
    return {entry for group in groups for entry in there if entry > group.last_delivered or entry in group.pending}


def maintain_at_a_server_that_is_behind(life: Life, rng: random.Random) -> str | None:
    """An old primary that came back, or one that knows of nothing: nothing that is known changes."""
    worker = any_worker(life, rng)
    position = _position(worker)
    if life.machine.fault is not None or position is None:
        return None
    behind = RedisModel(lambda: life.machine.now_s)
    behind.streams = {key: stream.copy() for key, stream in (life.remembered or {}).items()}
    stream = behind.streams.get(worker.mdt.key)
    if (stream.last if stream is not None else 0) >= pack_id(position.last_id):
        return None
    before = _content(worker.state_path)
    result = life.maintain(worker, stream=_at(life, worker, behind))
    if not isinstance(result, (StreamBehind, StateError)):
        raise Wrong(f"a server that is behind was not noticed: {result}")
    if worker.state_path.exists() and before != _content(worker.state_path):
        raise Wrong(f"a server that is behind was believed: {result}")
    return str(result)


def maintain_at_another_server(life: Life, rng: random.Random) -> str | None:
    """One that has gone on from an older copy of the stream: what is known of ours stays."""
    worker = any_worker(life, rng)
    stream = life.stream(worker.mdt)
    position = _position(worker)
    if life.machine.fault is not None or position is None or stream is None or not stream.ids:
        return None
    another = RedisModel(lambda: life.machine.now_s)
    other = another.streams[worker.mdt.key] = stream.copy()
    gone = other.ids[-rng.randint(1, len(stream)) :]
    if pack_id(position.last_id) < gone[0]:
        return None  # it has all that is known
    del other.ids[-len(gone) :], other.fields[-len(gone) :]
    ids = gone if rng.random() < 0.5 else [entry + 1 for entry in gone]
    other.ids += ids
    other.fields += [[b"data", b"of another server"] for _ in ids]
    other.last = ids[-1]
    before = _content(worker.state_path)
    result = life.maintain(worker, stream=_at(life, worker, another))
    if not isinstance(result, (StreamMoved, StreamBehind, StateError)):
        raise Wrong(f"another server was not noticed: {result}")
    if worker.state_path.exists() and before != _content(worker.state_path):
        raise Wrong(f"another server was believed: {result}")
    return str(result)


def _position(worker: Worker) -> Head | None:
    try:
        with closing(StateFileHealer(worker.state_path)) as state:
            return state.position()
    except HsmError:
        return None


def _at(life: Life, worker: Worker, server: RedisModel) -> ActionStream:
    return ActionStream(life.client(server), worker.mdt.key.decode(), "another server")


def heal_what_was_edited(life: Life, rng: random.Random) -> str | None:
    """Somebody edits the state file of a worker, and maintenance comes by before the next poll."""
    worker = any_worker(life, rng)
    if not is_settled(life, worker) or life.server.refuses:
        return None
    how = rng.choice(sorted(_EDITS))
    with closing(sqlite3.connect(worker.state_path, isolation_level=None)) as database:
        places = database.execute("SELECT cat_idx, rec_idx FROM actions").fetchall()
        edited = rng.sample(places, rng.randint(1, len(places)))
        for statement in _EDITS[how]:
            if "?" in statement:
                database.executemany(statement, edited)
            else:
                database.execute(statement)
    worker.may_be_set_aside = True
    result = life.maintain(worker)
    if not isinstance(result, (CycleResult, StateCorrupt)):
        raise Wrong(f"maintenance fails: {result}")
    if isinstance(result, CycleResult):
        life.check_rows(worker)
    return f"{how} {len(edited)}: {result}"


def heal_while_a_worker_polls(life: Life, rng: random.Random) -> str | None:
    """An entry is deleted, and its action taken out of the state file, between a reading and its commit."""
    worker = any_worker(life, rng)
    mdt = worker.mdt
    if not is_settled(life, worker):
        return None
    place = rng.choice(sorted(mdt.lines))
    entry = mdt.referee.fold.live[place].entry
    for other in mdt.lines:
        set_status(mdt, other, rng.choice(("WAITING", "STARTED")))
    if rng.random() < 0.7:
        del mdt.lines[place]
    told: list[object] = []

    def heal(_: object) -> None:
        delete(life, mdt, [entry])
        told.append(life.maintain(worker))

    if not life.server.tells_deleted:
        life.hidden_losses.add(mdt.name)
    point, after = rng.choice(("file", "send", "reply")), rng.randint(0, 2)
    life.machine.fault = Fault(point, after, heal)
    result = worker.poll()
    life.machine.fault = None
    return f"{place} at {point} {after}: {told}: {result}"


_OF_PLACE = "WHERE (cat_idx, rec_idx) = (?, ?)"
_NO_SUM = "UPDATE stream_position SET live_actions = NULL, live_actions_sum = NULL"  # as an earlier release leaves it
_EDITS = {
    "status": [f"UPDATE actions SET status = 'EDITED' {_OF_PLACE}"],
    "line": [_NO_SUM, f"UPDATE actions SET hash = '0123456789abcdef0123456789abcdef', entry_id = NULL {_OF_PLACE}"],
    "gone": [_NO_SUM, f"DELETE FROM actions {_OF_PLACE}"],
    "entry": [f"UPDATE actions SET entry_id = NULL {_OF_PLACE}"],
}


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
