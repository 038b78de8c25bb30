"""Some thousand steps of the simulation; `make torture` does a million of them. A failure says how to see it again."""

from __future__ import annotations

import pytest

from tests.faults.guards import MUTATIONS, Mutation
from tests.faults.model.simulation import live, shrunk
from tests.faults.mutations import ROOT, mutated

LIVES = 24


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_streams_end_up_true(seed: int) -> None:
    for number in range(LIVES // 4):
        failure = live(f"{seed}.{number}")
        assert failure is None, f"\n{shrunk(failure)}"


def test_a_failure_is_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fold that takes nothing for gone; the steps that are left still show it, and nothing else does."""
    monkeypatch.setattr("hsm_shipper.contract.fold.ActionFold._purge", lambda *_: None)
    failure = next(found for found in (live(f"0.{number}") for number in range(20)) if found is not None)
    short = shrunk(failure)
    assert len(short.steps) <= 12 < len(failure.steps)
    assert f"--life {short.seed} --only {','.join(map(str, short.steps))}" in str(short)
    again = live(short.seed, short.steps)
    assert again is not None and again.trace == short.trace


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.file}: {mutation.why}")
def test_every_guard_of_the_list_is_in_the_code(mutation: Mutation) -> None:
    """`make torture` takes each away, and looks that the simulation misses it."""
    text = mutated(mutation)
    if mutation.file.endswith(".py"):
        compile(text, mutation.file, "exec")
    assert not mutation.test or (ROOT / mutation.test.partition("::")[0]).exists()
