"""Fixtures of the pure tests: a simulated metadata server, and an MDT."""

from __future__ import annotations

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
