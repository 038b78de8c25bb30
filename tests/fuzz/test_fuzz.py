"""The kept corpus, and some thousand inputs around it; `make fuzz` tries millions, with coverage to lead them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutants import TOKENS, formed
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
MUTANTS = 2000
SLOW_MUTANTS = 300
_SLOW = ("config",)


def _kept(target: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_what_is_kept(target: str) -> None:
    kept = _kept(target)
    assert kept, "every target begins somewhere"
    for data in kept:
        TARGETS[target](data)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_mutants_of_what_is_kept(target: str) -> None:
    rng = random.Random(target)
    kept = _kept(target)
    for _ in range(SLOW_MUTANTS if target in _SLOW else MUTANTS):
        data = mutant(rng, kept)
        if rng.random() < 0.5:
            data = formed(rng.choice(kept), rng.randrange(2**32)) or data
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(f"{target}: {data!r}") from error


@pytest.mark.parametrize("target", sorted(TARGETS))
@settings(max_examples=150)
@given(data=st.binary(max_size=300))
def test_anything(target: str, data: bytes) -> None:
    TARGETS[target](data)


def mutant(rng: random.Random, kept: list[bytes]) -> bytes:
    """A kept input with some of it changed, cut, repeated, or replaced by a piece of another."""
    data = bytearray(rng.choice(kept))
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, behind = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        other = rng.choice(kept)
        begin = rng.randint(0, len(other))
        piece = rng.choice((
            b"", bytes([rng.randrange(256)]), rng.choice(TOKENS), bytes(data[at:behind]) * 2,
            other[begin : begin + rng.randint(0, 40)],
        ))  # fmt: skip
        data[at : rng.choice((at, at + 1, behind))] = piece
    return bytes(data)
