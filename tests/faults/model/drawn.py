"""What steps draw: an MDT, and mostly the worker that has it."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.faults.model.life import HOSTS, Life, Mdt, Worker

Step = Callable[[Life, random.Random], str | None]
"""Something that may happen. Draws what it needs, does nothing where it is not possible, and says what it did."""


def any_mdt(life: Life, rng: random.Random) -> Mdt:
    """One of the MDTs."""
    return rng.choice(life.mdts)


def any_worker(life: Life, rng: random.Random) -> Worker:
    """Mostly the one that has its MDT."""
    mdt = any_mdt(life, rng)
    return life.worker(mdt, rng.choice(HOSTS) if rng.random() < 0.2 else None)


def is_settled(life: Life, worker: Worker) -> bool:
    """Whether the worker may be given what it must not believe: it knows the list, and doubts nothing in it."""
    mdt = worker.mdt
    if life.machine.fault is not None or life.is_down or life.server.refuses or mdt.hsm_control != "enabled":
        return False
    if mdt.mounted_on != {worker.host} or not mdt.lines or mdt.key in life.server.strings:
        return False
    result = worker.poll()
    if result is None or result.error is not None or not mdt.referee.is_true():
        return False
    return not worker.replica.unconfirmed_absent
