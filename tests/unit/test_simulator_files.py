"""The simulated servers: mounting and failing over, the files that a reader meets, and the command that writes them."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import (
    ARCHIVE,
    ENABLED,
    FAILED,
    REMOVE,
    RESTORE,
    STOPPED,
    STOPPING,
    SimulatedMds,
    SimulatedMdt,
    Workload,
    populate,
)
from tests.simulator.__main__ import main
from tests.unit.listings import MDT, parse


def watched(mds: SimulatedMds) -> list[Path]:
    return sorted(Path(path) for path in glob.glob(mds.watch_glob))  # noqa: PTH207 - the glob is a string


# Failover


def test_a_failover_keeps_places_and_cookies(tmp_path: Path, mdt: SimulatedMdt) -> None:
    one, two = SimulatedMds(tmp_path / "one"), SimulatedMds(tmp_path / "two")
    mdt.mount(one)
    records = [mdt.submit(ARCHIVE) for _ in range(100)]
    mdt.write()
    listing = one.actions_path(MDT).read_bytes()
    mdt.unmount()
    mdt.advance(1000)
    assert watched(one) == []
    mdt.mount(two)
    assert two.actions_path(MDT).read_bytes() == listing == mdt.listing()
    after = mdt.submit(ARCHIVE)
    assert after.place == (2, 1)
    assert after.cookie == records[-1].cookie + 1


def test_a_remount_without_new_records_opens_no_llog(mds: SimulatedMds, mdt: SimulatedMdt) -> None:
    mdt.mount(mds)
    mdt.submit(ARCHIVE)
    for _ in range(3):
        mdt.unmount()
        mdt.mount(mds)
    assert mdt.submit(ARCHIVE).place == (2, 1)


def test_cookies_start_lower_after_a_remount_with_an_empty_list(mds: SimulatedMds, mdt: SimulatedMdt) -> None:
    mdt.mount(mds)
    busy = [mdt.submit(ARCHIVE) for _ in range(1000)]  # faster than one a second: the counter outruns the clock
    for record in busy:
        mdt.remove(record)
    mdt.unmount()
    mdt.advance(10)
    mdt.mount(mds)
    assert mdt.submit(ARCHIVE).cookie == busy[10].cookie


def test_a_live_list_survives_failovers(tmp_path: Path) -> None:
    servers = [SimulatedMds(tmp_path / name) for name in ("one", "two")]
    mdt = SimulatedMdt(MDT)
    workload = Workload(mdt, arrivals_per_s=20)
    for turn in range(6):
        mdt.mount(servers[turn % 2])
        workload.advance(100)
        mdt.write()
        before = mdt.by_place()
        mdt.unmount()
        workload.advance(20)
        assert mdt.by_place() == before, "nothing happens to an MDT that is not mounted"
    assert {cat for cat, _ in before} >= {5, 6}


# Files


def test_mount_and_unmount_step_by_step(mds: SimulatedMds, mdt: SimulatedMdt) -> None:
    populate(mdt, 50)
    actions, control = mds.actions_path(MDT), mds.hsm_control_path(MDT)
    mdt.attach(mds)
    assert actions.parent.is_dir()
    assert not actions.exists()
    assert control.read_text() == "init\n"
    mdt.set_hsm_control(ENABLED)
    mdt.write()
    assert control.read_text() == "enabled\n"
    mdt.set_hsm_control(STOPPING)
    assert control.read_text() == "stopping\n"
    mdt.set_hsm_control(STOPPED)
    assert control.read_text() == "stopped\n"
    assert actions.read_bytes() == mdt.listing() != b""
    mdt.detach()
    assert not actions.parent.parent.exists()
    assert not control.parent.exists()
    assert (mds.root / "sys/kernel/debug/lustre/mdt").is_dir()


def test_the_glob_finds_every_mdt_of_the_server(tmp_path: Path) -> None:
    mds = SimulatedMds(tmp_path / "odd [name]")
    mdts = [SimulatedMdt(f"elm-MDT{number:04x}") for number in (0, 1, 0x1F)]
    for mdt in mdts:
        mdt.mount(mds)
    assert watched(mds) == [mds.actions_path(mdt.name) for mdt in mdts]


def test_a_reader_has_a_snapshot_and_never_meets_a_half_written_file(mds: SimulatedMds, mdt: SimulatedMdt) -> None:
    mdt.mount(mds)
    mdt.submit(ARCHIVE)
    mdt.write()
    actions, before = mds.actions_path(MDT), mdt.listing()

    def lines_while_somebody_looks() -> Iterator[bytes]:
        for number in range(10_000):
            if number % 2500 == 0:
                assert watched(mds) == [actions]
                assert actions.read_bytes() == before
            yield b"x" * 230 + b"\n"

    with actions.open("rb") as slow_reader:
        start = slow_reader.read(10)
        mds.write_actions(MDT, lines_while_somebody_looks())
        assert start + slow_reader.read() == before
    assert actions.stat().st_size == 10_000 * 231


def test_the_files_change_only_with_write(mds: SimulatedMds, mdt: SimulatedMdt) -> None:
    mdt.mount(mds)
    assert mds.actions_path(MDT).read_bytes() == b""
    mdt.submit(ARCHIVE)
    assert mds.actions_path(MDT).read_bytes() == b""
    mdt.write()
    assert mds.actions_path(MDT).read_bytes() == mdt.listing() != b""


def test_the_small_files(mds: SimulatedMds) -> None:
    mdt = SimulatedMdt(MDT, grace_delay_s=90, max_requests=5)
    mdt.mount(mds)
    for action in (ARCHIVE, ARCHIVE, ARCHIVE, RESTORE, REMOVE, ARCHIVE):
        mdt.submit(action)
    first, second, *_ = mdt.dispatch()
    mdt.finish(first)
    mdt.finish(second, FAILED)
    mdt.write()
    assert {path.name: path.read_text() for path in mds.tunables_path(MDT).iterdir()} == {
        "grace_delay": "90\n",
        "loop_period": "10\n",
        "active_request_timeout": "3600\n",
        "max_requests": "5\n",
        "archive_count": "1\n",
        "restore_count": "1\n",
        "remove_count": "1\n",
    }
    agents = mds.agents_path(MDT).read_text()
    shape = r"uuid=[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} archive_id=ANY requests=\[current:%d ok:%d errors:%d\]\n"
    assert re.fullmatch(shape % (1, 0, 1) + shape % (2, 1, 0), agents)


def test_commands_that_make_no_sense(tmp_path: Path, mds: SimulatedMds, mdt: SimulatedMdt) -> None:
    with pytest.raises(RuntimeError, match="not mounted"):
        mdt.write()
    mdt.mount(mds)
    with pytest.raises(RuntimeError, match="mounted already"):
        mdt.mount(SimulatedMds(tmp_path / "other"))
    with pytest.raises(ValueError, match="no state of hsm_control"):
        mdt.set_hsm_control("purge")
    with pytest.raises(ValueError, match="use cancel"):
        mdt.submit("CANCEL")
    record = mdt.submit(ARCHIVE)
    mdt.remove(record)
    with pytest.raises(ValueError, match="no longer in the list"):
        mdt.finish(record)


# The command


def test_the_command_runs_a_live_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--mdts", "2", "--requests", "200", "--seed", "1", "--interval", "0.01", "--duration", "0.05"]
    main(["--root", str(tmp_path), *arguments])
    mds = SimulatedMds(tmp_path)
    assert len(watched(mds)) == 2
    for name in ("sim-MDT0000", "sim-MDT0001"):
        lines = mds.actions_path(name).read_bytes().splitlines()
        assert 100 < len(lines) < 400
        for line in lines:
            parse(line)
    assert f"watch {mds.watch_glob}" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--mdts", "0"], ["--step", "0"], ["--requests", "many"]])
def test_the_command_refuses_nonsense(tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--root", str(tmp_path), *wrong])
    assert wrong[0] in capsys.readouterr().err
