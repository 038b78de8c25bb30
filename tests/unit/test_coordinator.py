"""Where the coordinator's files are, for either place of the actions file and below any root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hsm_shipper.lustre.coordinator import mdt_folder, read_hsm_control, read_slots, read_tunable

MDT = "elm-MDT0000"
DEBUGFS = f"sys/kernel/debug/lustre/mdt/{MDT}"


@pytest.mark.parametrize(
    ("actions_in", "rest_in"), [(DEBUGFS, f"sys/fs/lustre/mdt/{MDT}"), (f"proc/fs/lustre/mdt/{MDT}",) * 2]
)
@pytest.mark.parametrize("root", ["/", "/srv/simulated mds"])
def test_folders(root: str, actions_in: str, rest_in: str) -> None:
    assert mdt_folder(Path(root, actions_in, "hsm/actions")) == Path(root, rest_in)


def test_a_path_of_another_kind_has_them_beside_it() -> None:
    assert mdt_folder(Path("/x/elm-MDT0000/hsm/actions")) == Path("/x/elm-MDT0000")
    assert mdt_folder(Path("/hsm/actions")) == Path("/")


def test_reading(tmp_path: Path) -> None:
    actions = tmp_path / DEBUGFS / "hsm/actions"
    assert read_hsm_control(actions) is None and read_tunable(actions, "grace_delay") is None
    folder = mdt_folder(actions)
    (folder / "hsm").mkdir(parents=True)
    (folder / "hsm_control").write_text("stopping\n")
    (folder / "hsm/grace_delay").write_text("60\n")
    assert (read_hsm_control(actions), read_tunable(actions, "grace_delay")) == ("stopping", 60)
    (folder / "hsm_control").write_bytes(b"\xff\n")
    (folder / "hsm/grace_delay").write_text("soon")
    assert read_hsm_control(actions) == "�" and read_tunable(actions, "grace_delay") is None
    (folder / "hsm_control").write_text("")
    assert read_hsm_control(actions) is None


@pytest.mark.timeout(60)
def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    actions = tmp_path / DEBUGFS / "hsm/actions"
    folder = mdt_folder(actions)
    for path in (folder / "hsm_control", folder / "hsm/max_requests", actions.with_name("agents")):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
    slots = read_slots(actions)
    assert (read_hsm_control(actions), slots.max_requests, slots.copytools) == (None, None, None)
