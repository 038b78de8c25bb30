"""Files that are replaced as a whole, or stay as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hsm_shipper.errors import ConfigError, HsmError
from hsm_tools.stats import write_report


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "hsm.prom"
    write_report(file, "one\n")
    write_report(file, "two\n")
    assert file.read_text() == "two\n" and list(tmp_path.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_file_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(Path("hsm.prom"), "one\n")
    assert (tmp_path / "hsm.prom").read_text() == "one\n"


@pytest.mark.parametrize("step", ["fsync", "fchmod", "replace"])
def test_whatever_fails_the_old_file_stays_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "hsm.prom"
    file.write_text("before")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if step == "replace" else os, step, full)
    with pytest.raises(HsmError, match="No space left") as caught:
        write_report(file, "after")
    assert str(file) in str(caught.value)
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]


def test_a_folder_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigError):
            write_report(path, "text")
    assert Path("/dev/null").is_char_device()
