"""Fixtures of the pure tests: a simulated metadata server, and an MDT."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulator import SimulatedMds, SimulatedMdt
from tests.unit.listings import MDT


@pytest.fixture
def mdt() -> SimulatedMdt:
    """An MDT without actions, mounted nowhere."""
    return SimulatedMdt(MDT)


@pytest.fixture
def mds(tmp_path: Path) -> SimulatedMds:
    """A metadata server without MDTs."""
    return SimulatedMds(tmp_path / "mds1")


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes a time zone (as in TZ) the local one for this test."""

    def make_local(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield make_local
    monkeypatch.undo()
    time.tzset()
