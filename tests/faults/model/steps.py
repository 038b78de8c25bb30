"""Every step, how often it comes, and faults that wait for the next process that comes by."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable

import redis

from tests.faults.model.drawn import Step, any_worker
from tests.faults.model.host_steps import (
    bring_back_copy,
    copy_state,
    cut_power,
    damage_state,
    fail_over,
    kill,
    lose_state,
    mix_two_days,
    mount_twice_or_nowhere,
)
from tests.faults.model.life import Life
from tests.faults.model.list_steps import (
    burst,
    cancel_all,
    change_status,
    recreate,
    remove,
    submit,
)
from tests.faults.model.machine import Database, Fault
from tests.faults.model.maintenance_steps import (
    heal_what_was_edited,
    heal_while_a_worker_polls,
    maintain,
    maintain_at_a_server_that_is_behind,
    maintain_at_another_server,
    quiet,
)
from tests.faults.model.poll_steps import (
    poll,
    poll_a_short_listing,
    poll_an_incomplete_listing,
    poll_an_unsorted_listing,
    poll_as_the_coordinator_stops,
    poll_doubtful_listings,
    poll_everywhere,
    poll_with_an_unreadable_line,
    poll_with_garbage,
    stop_or_start_coordinator,
)
from tests.faults.model.redis_steps import (
    another_type,
    consumer_group,
    delete_below_a_deletion,
    delete_entries,
    down_or_up,
    flush,
    foreign_entries,
    lose_tail,
    move_clocks,
    refuse,
    remember,
    roll_back,
    set_id,
    trim_by_another_hand,
)


def arm(life: Life, rng: random.Random) -> str:
    """Something goes wrong at one of the next commands, statements or readings; then somebody polls or maintains."""
    point = rng.choice(
        ("send", "send", "reply", "reply", "statement", "statement", "statement done", "file", "keep going")
    )
    name, act = rng.choice(_acts(life, rng, point))
    after = (
        rng.choice((0, 0, 1, 2, 3, 5, 8, 13, 30, 60)) if point.startswith("statement") else rng.choice((0, 0, 1, 2, 4))
    )
    life.machine.fault = Fault(point, after, act)
    worker = any_worker(life, rng)
    text = f"{name} at {point} {after}: {worker.process.name}"
    if point == "keep going" or rng.random() < 0.25:
        return f"{text}: maintenance: {life.maintain(worker, threshold=rng.choice((1, 5, 1000)))}"
    return f"{text}: {worker.poll()}"


def _acts(life: Life, rng: random.Random, point: str) -> list[tuple[str, Callable[[object], None]]]:
    acts: list[tuple[str, Callable[[object], None]]] = [("kill", lambda _: life.machine.kill())] * 3
    if point in ("send", "reply"):
        acts += [("lost", _lose)] * 3
    if point == "statement":
        acts += [
            ("full", lambda at: _fail(at, sqlite3.SQLITE_FULL)),
            ("EIO", lambda at: _fail(at, sqlite3.SQLITE_IOERR)),
        ]
    if point in ("send", "reply", "file", "keep going"):
        meanwhile = rng.choice(_MEANWHILE)
        sub = random.Random(rng.random())
        acts += [(f"meanwhile {meanwhile.__name__}", lambda _: _nested(life, sub, meanwhile))] * 4
    return acts


def _lose(_: object) -> None:
    raise redis.ConnectionError("Connection closed by server.")


def _fail(at: object, code: int) -> None:
    assert isinstance(at, Database)
    at.fail(code)


def _nested(life: Life, rng: random.Random, step: Step) -> None:
    """Another process, or somebody else, does something while the current one waits."""
    before, life.machine.current = life.machine.current, None
    busy = {worker for worker in life.workers.values() if worker.process is before}
    life.busy, outer = life.busy | busy, life.busy
    try:
        step(life, rng)
    finally:
        life.machine.current, life.busy = before, outer


def take_away_fault(life: Life, rng: random.Random) -> None:
    """What waits to happen does not."""
    life.machine.fault = None


WEIGHTS: dict[Step, int] = {
    submit: 14, change_status: 16, remove: 8, cancel_all: 1, recreate: 1, burst: 1,
    poll: 22, poll_everywhere: 4, poll_an_incomplete_listing: 4, poll_a_short_listing: 3, poll_an_unsorted_listing: 1,
    poll_with_garbage: 2, poll_with_an_unreadable_line: 1, poll_doubtful_listings: 2,
    poll_as_the_coordinator_stops: 1, stop_or_start_coordinator: 2,
    arm: 18, take_away_fault: 1, kill: 4, cut_power: 2,
    fail_over: 3, mount_twice_or_nowhere: 2,
    lose_state: 2, damage_state: 2, copy_state: 2, bring_back_copy: 2, mix_two_days: 1,
    down_or_up: 3, refuse: 2, another_type: 1, flush: 1, remember: 1, roll_back: 1, lose_tail: 1,
    delete_entries: 2, delete_below_a_deletion: 1, trim_by_another_hand: 1, set_id: 1, foreign_entries: 3,
    move_clocks: 3, consumer_group: 2, maintain: 4, maintain_at_a_server_that_is_behind: 2,
    maintain_at_another_server: 1, heal_what_was_edited: 1, heal_while_a_worker_polls: 1, quiet: 3,
}  # fmt: skip
"""Every step, and how often it comes."""

_MEANWHILE: tuple[Step, ...] = (
    submit, change_status, remove, poll_everywhere, fail_over, flush, roll_back, lose_tail, delete_entries,
    trim_by_another_hand, set_id, foreign_entries, maintain, kill, lose_state, bring_back_copy, down_or_up, move_clocks,
)  # fmt: skip
"""What may happen while a process waits for an answer, reads, or is about to go on."""
