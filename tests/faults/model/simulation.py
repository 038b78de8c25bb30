"""Runs lives, and makes a failing one short.

A life is named by its seed and by which of its steps are done: each step draws from a generator of its own, so that the
others stay what they are when one is left out.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.model.drawn import Step
from tests.faults.model.life import Life
from tests.faults.model.machine import Machine
from tests.faults.model.maintenance_steps import quiet
from tests.faults.model.sizes import drawn, installed, told
from tests.faults.model.steps import WEIGHTS

STEPS_IN_A_LIFE = 250
_STEPS = list(WEIGHTS)
_WEIGHTS = list(WEIGHTS.values())
_RAM = Path("/dev/shm")
_SHRINK_S = 120.0


@dataclass
class Failure:
    """A life that went wrong."""

    seed: str
    steps: list[int]
    """What was done of it, the last of which went wrong; one beyond the life's end for its quiet end."""
    error: BaseException
    trace: list[str]

    def __str__(self) -> str:
        steps = ",".join(map(str, self.steps))
        told = "\n".join(self.trace)
        return (
            f"{told}\n{type(self.error).__name__}: {self.error}\n"
            f"again: python -m tests.faults.model --life {self.seed} --only {steps}"
        )


def live(seed: str, steps: Sequence[int] = range(STEPS_IN_A_LIFE + 1)) -> Failure | None:
    """Live one life, with these of its steps; the one numbered `STEPS_IN_A_LIFE` is its quiet end."""
    done: list[int] = []
    machine = Machine()
    rng = random.Random(f"{seed}/life")
    sizes, values = drawn(rng)
    trace = [f"sizes: {told(values)}, {sizes.bound}"]
    folder = tempfile.TemporaryDirectory(dir=_RAM if os.access(_RAM, os.W_OK) else None)
    with folder, machine.installed(migrates=rng.random() < 0.25), installed(values):
        tells_deleted, include_raw = rng.random() < 0.8, rng.random() < 0.8
        life = Life(
            Path(folder.name), machine, sizes,
            mdts=rng.randint(1, 2), tells_deleted=tells_deleted, include_raw=include_raw,
        )  # fmt: skip
        trace += [] if tells_deleted else ["Redis is one before 7.0"]
        trace += [] if include_raw else ["include_raw: false"]
        try:
            for step in steps:
                done.append(step)
                what, step_rng = _drawn(seed, step)
                trace.append(f"{step:5} {what.__name__}")
                machine.let_pass(0.001)
                said = what(life, step_rng)
                trace[-1] += f": {said}" if said else ""
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            return Failure(seed, done, error, trace)
        finally:
            machine.current = machine.fault = None
            life.close()
    return None


def _drawn(seed: str, step: int) -> tuple[Step, random.Random]:
    rng = random.Random(f"{seed}/{step}")
    return quiet if step == STEPS_IN_A_LIFE else rng.choices(_STEPS, _WEIGHTS)[0], rng


def shrunk(failure: Failure) -> Failure:
    """The same failure with as few steps as can be found in two minutes."""
    until = time.monotonic() + _SHRINK_S
    size = len(failure.steps) // 2
    while size and time.monotonic() < until:
        at = 0
        while at < len(failure.steps) - 1 and time.monotonic() < until:
            shorter = failure.steps[:at] + failure.steps[min(at + size, len(failure.steps) - 1) :]
            again = live(failure.seed, shorter)
            if again is not None and _kind(again.error) == _kind(failure.error):
                failure = again
            else:
                at += size
        size //= 2
    return failure


def _kind(error: BaseException) -> tuple[type, str]:
    """What went wrong, without the ids and names: a shorter life is to show the same, and not something else."""
    return type(error), re.sub("[^a-z ]", "", str(error))[:40]


def first_failure(seed: int, steps: int) -> Failure | None:
    """Live lives of `seed` until so many steps are done; the first that goes wrong."""
    for number in range(max(1, round(steps / STEPS_IN_A_LIFE))):
        failure = live(f"{seed}.{number}")
        if failure is not None:
            return failure
    return None
