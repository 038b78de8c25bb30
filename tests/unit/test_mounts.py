"""Which file system is mounted where, by the text of /proc/mounts."""

from __future__ import annotations

import pytest

from hsm_shipper.errors import ConfigError
from hsm_tools.fid_paths.mounts import fsname_of, mount_of, named_mounts, parse_mounts

MOUNTS = parse_mounts(
    """\
sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
/dev/mapper/mdt0 /mnt/mdt0 lustre rw,svname=elm-MDT0000,mgsnode=10.0.0.1@tcp 0 0
10.0.0.1@tcp:/elm/scratch /scratch lustre rw,flock 0 0
10.0.0.1@tcp:10.0.0.2@tcp:/elm /lus\\040tre\\134 lustre rw,checksum,flock 0 0
fd00::1@tcp:/oak /oak lustre rw 0 0
10.0.0.3@tcp:/elm2 /oak/elm2 lustre rw 0 0
nas:/elm3 /nfs nfs4 rw 0 0
broken
"""
)


def test_the_file_system_is_in_the_name_of_the_mdt() -> None:
    assert fsname_of("elm-MDT0000") == "elm"
    assert fsname_of("a-b-MDT00ff") == "a-b"


@pytest.mark.parametrize(
    ("fsname", "folder"), [("elm", "/lus tre\\"), ("oak", "/oak"), ("elm2", "/oak/elm2"), ("elm3", None), ("", None)]
)
def test_the_mount_of_a_whole_file_system_is_preferred(fsname: str, folder: str | None) -> None:
    assert mount_of(fsname, MOUNTS) == folder


def test_a_folder_belongs_to_the_innermost_mount_around_it() -> None:
    assert named_mounts(["/scratch"], MOUNTS) == {"elm": "/scratch"}
    assert named_mounts(["/oak/elm2/x", "/oak/elm20"], MOUNTS) == {"elm2": "/oak/elm2", "oak": "/oak"}


def test_a_named_file_system_is_believed() -> None:
    assert named_mounts(["pine=/a=b/", "oak=/"], []) == {"pine": "/a=b", "oak": "/"}


@pytest.mark.parametrize("value", ["/nowhere", "lustre", "elm=lustre", "", "-l", "/nfs"])
def test_a_folder_on_no_lustre_file_system_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="FSNAME=DIR"):
        named_mounts([value], MOUNTS)
