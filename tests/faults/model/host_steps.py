"""Processes and hosts that end, MDTs that fail over, and what happens to state files."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.faults.model.drawn import any_mdt, any_worker
from tests.faults.model.life import HOSTS, Life, Worker
from tests.faults.model.list_steps import set_status
from tests.faults.model.machine import copy_of_database, move_over
from tests.support.damage import IMPOSSIBLE, IMPOSSIBLE_WAITING, Damage


def kill(life: Life, rng: random.Random) -> str:
    """Kill -9, or an end in good order, of a process that does nothing at the moment."""
    worker = any_worker(life, rng)
    if worker in life.busy:
        return "busy"
    worker.stop() if rng.random() < 0.3 else worker.kill()
    return worker.process.name


def cut_power(life: Life, rng: random.Random) -> str:
    """The host dies, and with it what SQLite had not synced: a worker syncs its log at checkpoints only."""
    worker = any_worker(life, rng)
    if worker in life.busy or worker.was_tidied:
        return "busy"
    worker.kill(rng.random())
    worker.break_promises()
    worker.readings[:0] = worker.earlier_readings
    worker.may_be_set_aside |= worker.has_mixed_log
    return worker.process.name


def fail_over(life: Life, rng: random.Random) -> str:
    """An MDT goes to another host; the one that loses it mostly forgets its state, as discovery has it do."""
    mdt = any_mdt(life, rng)
    losers = [life.worker(mdt, host) for host in sorted(mdt.mounted_on)]
    life.mount(mdt, set())
    life.mount(mdt, {rng.choice(HOSTS)})
    for worker in losers:
        if rng.random() < 0.6 and worker not in life.busy:
            _forget(worker)
    return f"{mdt.name} on {mdt.mounted_on}"


def _forget(worker: Worker) -> None:
    worker.replica.close()
    worker.break_promises()
    _unlink(worker.state_path)
    worker.was_tidied = False
    worker.start()


def mount_twice_or_nowhere(life: Life, rng: random.Random) -> str:
    """Two hosts believe that they have an MDT, or none has it."""
    mdt = any_mdt(life, rng)
    life.mount(mdt, set(rng.sample(HOSTS, rng.choice((0, 2, 2, 3)))))
    return f"{mdt.name} on {sorted(mdt.mounted_on)}"


def _unlink(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def lose_state(life: Life, rng: random.Random) -> str:
    """A state file that is deleted, cut or overwritten, under its worker or not."""
    worker = any_worker(life, rng)
    if worker in life.busy or not worker.state_path.exists():
        return "none"
    how = rng.choice(("deleted", "deleted alive", "cut", "garbage"))
    if how == "deleted alive":
        worker.state_path.unlink()
        worker.break_promises()
        return how
    content, worker.may_be_set_aside = worker.state_path.read_bytes(), True
    _forget(worker)
    if how != "deleted":
        worker.state_path.write_bytes(content[: len(content) // 2] if how == "cut" else b"\xa5" * len(content))
    return how


def damage_state(life: Life, rng: random.Random) -> str:
    """A cell that holds what no worker writes."""
    worker = any_worker(life, rng)
    if worker in life.busy:
        return "busy"
    if rng.random() < 0.5:
        worker.kill()
    impossible = IMPOSSIBLE | IMPOSSIBLE_WAITING
    where = rng.choice(sorted(impossible))
    damage = Damage(*where, rng.choice(impossible[where]), rng.randint(0, 99))
    if not damage.is_possible(worker.state_path):
        return "not possible"
    try:
        damage.do(worker.state_path)
    except sqlite3.Error as error:
        return str(error)
    worker.is_damaged = worker.may_be_set_aside = True
    worker.break_promises()
    return str(damage)


def copy_state(life: Life, rng: random.Random) -> str:
    """Yesterday's backup."""
    worker = any_worker(life, rng)
    done = worker.state_path.exists() and copy_of_database(worker.state_path, worker.copy_path)
    return f"{worker.process.name}: {done}"


def mix_two_days(life: Life, rng: random.Random) -> str | None:
    """Yesterday's state file under a log that holds little but the position: its worker is killed in between."""
    worker = any_worker(life, rng)
    mdt, copy = worker.mdt, worker.copy_path
    if life.busy or life.machine.fault is not None or worker.host not in mdt.mounted_on:
        return None
    if not worker.state_path.exists() or not copy_of_database(worker.state_path, copy):
        return None
    for place in mdt.lines:
        set_status(mdt, place, rng.choice(("WAITING", "STARTED", "SUCCEED")))
    worker.poll()
    life.maintain(worker)
    worker.poll()
    worker.may_be_set_aside = worker.has_mixed_log = True
    move_over(copy, worker.state_path)
    worker.kill()
    worker.break_promises()
    return worker.process.name


def bring_back_copy(life: Life, rng: random.Random) -> str:
    """Yesterday's state file comes back: by SQLite's own hand, or moved over the live one, whose log stays."""
    worker = any_worker(life, rng)
    copy = worker.copy_path
    if worker in life.busy or not copy.exists():
        return "none"
    worker.break_promises()
    how = rng.choice(("restored", "moved", "moved and killed"))
    worker.may_be_set_aside = worker.has_mixed_log = True
    if how != "restored":
        move_over(copy, worker.state_path)
        if how == "moved and killed":
            worker.kill()
        return how
    try:
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(worker.state_path, timeout=0)) as target:
            target.execute("BEGIN IMMEDIATE")  # by itself it would wait for ever for a run that it is in the middle of
            target.rollback()
            source.backup(target)
    except sqlite3.Error as error:
        return str(error)
    return how
