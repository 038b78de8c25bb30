"""A state file with other bytes in it, anywhere: it is read, or set aside, and nothing else ever happens."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hsm_shipper.errors import StateError
from hsm_shipper.state.damage import check_for_damage
from hsm_shipper.state.poll_status import read_poll_status
from hsm_shipper.state.state_file import StateFile, open_state_file
from hsm_shipper.worker.line_index import LineIndex
from tests.support.core import OneMdt, line

MUTANTS = 240


def look(path: Path) -> None:
    """What a worker, maintenance and `status` do with it; `StateError` at most."""
    with contextlib.suppress(StateError):
        read_poll_status(path)
    with contextlib.suppress(StateError):
        check_for_damage(path)
    with contextlib.suppress(StateError):
        file, _ = open_state_file(path)
        with closing(file):
            file.load(LineIndex)
            list(file.live_actions())


@pytest.fixture
def content(mdt: OneMdt) -> bytes:
    """A state file as a worker leaves it."""
    mdt.poll(*map(line, range(1, 40)))
    mdt.replica.close()
    return mdt.state.read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_other_bytes_anywhere(content: bytes, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "mutant.sqlite3"
    text = [
        at for at in range(len(content) - 20) if content[at : at + 20].isascii() and content[at : at + 20].isalnum()
    ]
    for _ in range(MUTANTS // 3):
        mutant = bytearray(content)
        for _ in range(rng.choice((1, 1, 3, 10))):
            at = rng.choice((rng.randrange(len(content)), rng.randrange(8192), rng.choice(text)))
            length = rng.choice((1, 1, 4, 100))
            mutant[at : at + length] = rng.choice((rng.randbytes(length), b"\xff" * length, bytes(length)))
        for each in tmp_path.glob("mutant*"):
            each.unlink()
        path.write_bytes(mutant[: rng.choice((len(mutant), len(mutant), rng.randrange(len(mutant))))])
        look(path)


def test_a_schema_that_is_no_text(mdt: OneMdt, content: bytes) -> None:
    """SQLite quotes it in its error, and Python cannot read that."""
    mdt.state.write_bytes(content.replace(b"CREATE TABLE actions (", b"CREATE \xe9\xffBLE actions (", 1))
    with closing(sqlite3.connect(mdt.state)) as connection, pytest.raises(UnicodeDecodeError):
        connection.execute("SELECT 1 FROM sqlite_master")
    mdt.forget_told()
    mdt.told()
    assert mdt.poller.poll().error is None
    assert mdt.told() == []
    assert mdt.state.with_name(f"{mdt.state.name}.broken").exists()
    StateFile(mdt.state).close()
