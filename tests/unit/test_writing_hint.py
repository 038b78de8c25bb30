"""What to do where nothing may be written, which a unit of systemd brings about."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hsm_shipper.errors import ConfigError
from hsm_shipper.state.locks import FileLock


@pytest.mark.parametrize(("number", "hint"), [(errno.EROFS, "ReadWritePaths="), (errno.EACCES, "the folder's owner")])
def test_a_folder_that_the_unit_closes_is_not_taken_for_one_of_another_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", closed)
    with pytest.raises(ConfigError) as raised:
        FileLock(tmp_path / "state/shipper.lock", "the shipper")
    assert hint in raised.value.hint
