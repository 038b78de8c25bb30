"""The simulator against what real Lustre prints and does (tests/fixtures/actions, and the facts noted in its code)."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import (
    ARCHIVE,
    CANCELED,
    DISABLED,
    ENABLED,
    FAILED,
    IMPLICIT_RESTORE,
    REMOVE,
    RESTORE,
    STARTED,
    STOPPED,
    STOPPING,
    SUCCEED,
    WAITING,
    Record,
    SimulatedMds,
    SimulatedMdt,
    Workload,
    populate,
)
from tests.simulator.__main__ import main

FIXTURES = Path(__file__).parents[1] / "fixtures/actions"
MDT = "elm-MDT0000"

LINE = re.compile(
    rb"lrh=\[type=10680000 len=(?P<len>\d+) idx=(?P<cat>\d+)/(?P<rec>\d+)\] "
    rb"fid=\[(?P<fid>0x[0-9a-f]+:0x[0-9a-f]+:0x0)\] dfid=\[(?P<dfid>0x[0-9a-f]+:0x[0-9a-f]+:0x0)\] "
    rb"compound/cookie=0x(?P<compound_id>[0-9a-f]+)/0x(?P<cookie>[0-9a-f]+) "
    rb"action=(?P<action>ARCHIVE|RESTORE|REMOVE|CANCEL) archive#=(?P<archive_id>-?\d+) flags=0x(?P<flags>0|4) "
    rb"extent=0x0-0xffffffffffffffff gid=0x0 datalen=(?P<datalen>\d+) "
    rb"status=(?P<status>WAITING|STARTED|FAILED|CANCELED|SUCCEED) data=\[(?P<data>(?:[0-9A-F]{2}){0,5})\]"
)


def parse(line: bytes) -> dict[str, str]:
    match = LINE.fullmatch(line)
    assert match is not None, line
    return {name: value.decode() for name, value in match.groupdict().items()}


def statuses(mdt: SimulatedMdt) -> list[str]:
    return [parse(line)["status"] for line in mdt.lines()]


def places(mdt: SimulatedMdt) -> list[tuple[int, int]]:
    return list(mdt.by_place())


def watched(mds: SimulatedMds) -> list[Path]:
    return sorted(Path(path) for path in glob.glob(mds.watch_glob))  # noqa: PTH207 - the glob is a string


@pytest.fixture
def mdt() -> SimulatedMdt:
    return SimulatedMdt(MDT)


@pytest.fixture
def mds(tmp_path: Path) -> SimulatedMds:
    return SimulatedMds(tmp_path / "mds1")


# Lines


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.txt")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_real_line_is_rendered_to_the_identical_bytes(path: Path) -> None:
    for line in path.read_bytes().splitlines():
        fields = parse(line)
        record = Record(
            cat=int(fields["cat"]),
            rec=int(fields["rec"]),
            fid=fields["fid"],
            dfid=fields["dfid"],
            cookie=int(fields["cookie"], 16),
            compound_id=int(fields["compound_id"], 16),
            action=fields["action"],
            archive_id=int(fields["archive_id"]) % 2**32,
            flags=int(fields["flags"], 16),
            data=bytes.fromhex(fields["data"]).ljust(int(fields["datalen"]), b"."),
            status=fields["status"],
            changed_at=0.0,
        )
        assert record.line == line
        assert record.rendered() == line + b"\n"


def test_a_busy_list_has_the_shape_of_real_ones() -> None:
    mdt = SimulatedMdt(MDT, max_requests=300)  # too few for what arrives: a queue forms
    populate(mdt, 2000)
    workload = Workload(mdt, arrivals_per_s=20)
    for _ in range(20):
        workload.advance(10)
        lines = mdt.lines()
        fields = [parse(line) for line in lines]
        assert places(mdt) == sorted(places(mdt))
        assert len(set(places(mdt))) == len(lines) == len(mdt)
        assert mdt.listing() == b"".join(line + b"\n" for line in lines)
        for field in fields:
            assert (field["dfid"] == field["fid"]) or field["action"] == RESTORE
        cookies = [field["cookie"] for field in fields if field["action"] != "CANCEL"]
        assert len(set(cookies)) == len(cookies)
    assert {field["action"] for field in fields} == {"ARCHIVE", "RESTORE", "REMOVE", "CANCEL"}
    assert {field["status"] for field in fields} == {"WAITING", "STARTED", "FAILED", "CANCELED", "SUCCEED"}
    assert {field["datalen"] for field in fields} == {"0", "5", "49"}
    assert {field["archive_id"] for field in fields} == {"1", "2"}
    files = [(field["fid"], field["action"]) for field in fields]
    assert len(set(files)) < len(files), "some files have several live records with the same action"


def test_data_is_cut_and_the_archive_id_is_signed(mdt: SimulatedMdt) -> None:
    fields = parse(mdt.submit(ARCHIVE, archive_id=4_000_000_000, data=b"hello world").line)
    assert (fields["archive_id"], fields["datalen"], fields["data"], fields["len"]) == (
        "-294967296",
        "11",
        "68656C6C6F",
        "152",
    )


def test_old_lustre_prints_a_compound_id() -> None:
    old = SimulatedMdt(MDT, compound_ids=True)
    first, second = (int(parse(old.submit(ARCHIVE).line)["compound_id"], 16) for _ in range(2))
    assert 0 < first < second


# Places


def test_a_twin_of_the_real_history_gets_the_same_places(mdt: SimulatedMdt) -> None:
    """The places of 48_new_after_purge.txt: an llog goes on at the next REC, whatever was deleted."""
    records = [mdt.submit(ARCHIVE) for _ in range(25)]
    assert [record.place for record in records] == [(1, rec) for rec in range(1, 26)]
    for record in records:
        mdt.remove(record)
    assert mdt.submit(ARCHIVE).place == (1, 26)


def test_padding_leaves_gaps_and_a_full_llog_is_followed_by_the_next(mdt: SimulatedMdt) -> None:
    populate(mdt, 70_000)
    in_first = [rec for cat, rec in places(mdt) if cat == 1]
    assert in_first[0] == 1
    assert 64_700 < in_first[-1] <= 64_767
    assert 0.012 < 1 - len(in_first) / in_first[-1] < 0.025
    assert places(mdt)[len(in_first)] == (2, 1)
    assert places(mdt) == sorted(places(mdt))


def test_a_wrapped_catalog_sorts_new_records_first_and_never_reuses_a_cat_in_use(mdt: SimulatedMdt) -> None:
    old = mdt.submit(ARCHIVE)
    mdt.open_llog(64_767)
    last = mdt.submit(ARCHIVE)
    with pytest.raises(ValueError, match="CAT 1 still holds records"):
        mdt.open_llog()
    mdt.remove(old)
    mdt.open_llog()
    new = mdt.submit(ARCHIVE)
    assert old.place == new.place == (1, 1)
    assert [record.place for record in mdt.records()] == [(1, 1), (64_767, 1)]
    assert mdt.records() == [new, last]


def test_a_forced_place_throws_out_its_occupant(mdt: SimulatedMdt) -> None:
    first, second, third = (mdt.submit(ARCHIVE) for _ in range(3))
    mdt.remove(first)
    mdt.submit(RESTORE, place=(1, 1))
    mdt.submit(REMOVE, place=(1, 2))
    assert [(record.rec, record.action) for record in mdt.records()] == [(1, RESTORE), (2, REMOVE), (3, ARCHIVE)]
    with pytest.raises(ValueError, match="no longer in the list"):
        mdt.start(second)
    mdt.start(third)
    assert mdt.submit(ARCHIVE).place == (1, 4)


def test_a_recreated_llog_starts_at_the_first_place(mdt: SimulatedMdt) -> None:
    old = [mdt.submit(ARCHIVE) for _ in range(5)]
    mdt.recreate_llog()
    assert mdt.listing() == b""
    new = mdt.submit(ARCHIVE)
    assert new.place == old[0].place
    assert new.cookie > old[-1].cookie


# Life of a request


def test_a_request_is_rewritten_in_its_place(mdt: SimulatedMdt) -> None:
    record = mdt.submit(ARCHIVE)
    seen = [record.line]
    mdt.start(record)
    seen.append(record.line)
    mdt.retry(record)
    seen.append(record.line)
    mdt.start(record)
    mdt.finish(record, FAILED)
    seen.append(record.line)
    assert [parse(line)["status"] for line in seen] == [WAITING, STARTED, WAITING, FAILED]
    assert {line.replace(b"STARTED", b"WAITING").replace(b"FAILED", b"WAITING") for line in seen} == {seen[0]}
    assert mdt.by_place() == {(1, 1): record.line}


@pytest.mark.parametrize("status", [SUCCEED, FAILED, CANCELED])
def test_a_finished_record_stays_for_the_grace_delay(mdt: SimulatedMdt, status: str) -> None:
    record = mdt.submit(ARCHIVE)
    waiting = mdt.submit(ARCHIVE)
    mdt.advance(3)
    mdt.start(record)
    mdt.finish(record, status)
    mdt.advance(66)  # the grace delay is over after 63, the loops are at 60 and 70
    assert len(mdt) == 2
    mdt.advance(1)
    assert mdt.records() == [waiting]


def test_nothing_is_deleted_while_the_coordinator_is_disabled(mdt: SimulatedMdt) -> None:
    mdt.finish(mdt.submit(ARCHIVE))
    mdt.set_hsm_control(DISABLED)
    mdt.advance(500)
    assert len(mdt) == 1
    assert mdt.dispatch() == []
    mdt.set_hsm_control(ENABLED)
    mdt.advance(1)
    assert len(mdt) == 0


def test_a_word_that_lustre_may_print_one_day(mdt: SimulatedMdt) -> None:
    record = mdt.submit("MIGRATE")
    mdt.set_status(record, "PAUSED")
    assert b" action=MIGRATE " in record.line
    assert b" status=PAUSED " in record.line
    mdt.advance(10_000)
    assert mdt.records() == [record]


def test_a_cancel_carries_its_targets_cookie_and_cancels_it(mdt: SimulatedMdt) -> None:
    target = mdt.submit(ARCHIVE, archive_id=7)
    mdt.start(target)
    cancel = mdt.cancel(target)
    assert (cancel.cookie, cancel.fid, cancel.archive_id) == (target.cookie, target.fid, 7)
    assert statuses(mdt) == [STARTED, WAITING]
    mdt.start(cancel)
    assert statuses(mdt) == [CANCELED, STARTED]
    mdt.finish(cancel)
    assert statuses(mdt) == [CANCELED, SUCCEED]
    assert mdt.submit(ARCHIVE).cookie == target.cookie + 1, "a CANCEL takes no cookie"


def test_a_late_cancel_stays_started_until_the_timeout(mdt: SimulatedMdt) -> None:
    target = mdt.submit(ARCHIVE)
    mdt.start(target)
    cancel = mdt.cancel(target)
    mdt.finish(target)
    mdt.start(cancel)
    assert statuses(mdt) == [SUCCEED, STARTED]
    mdt.advance(3600)
    assert statuses(mdt) == [STARTED]
    mdt.advance(10)
    assert statuses(mdt) == [CANCELED]


def test_the_same_file_may_have_many_requests(mdt: SimulatedMdt) -> None:
    first = mdt.submit(ARCHIVE)
    mdt.submit(ARCHIVE, fid=first.fid)
    for archive_id in (1, 2):
        mdt.submit(REMOVE, fid=first.fid, archive_id=archive_id)
    fields = [parse(line) for line in mdt.lines()]
    assert {field["fid"] for field in fields} == {first.fid}
    assert [field["archive_id"] for field in fields] == ["1", "1", "1", "2"]
    assert len({field["cookie"] for field in fields}) == 4


def test_a_running_restore_has_another_dfid(mdt: SimulatedMdt) -> None:
    record = mdt.submit(RESTORE, flags=IMPLICIT_RESTORE)
    assert record.dfid == record.fid
    mdt.start(record)
    mdt.finish(record)
    fields = parse(record.line)
    assert fields["dfid"] != fields["fid"]
    assert fields["flags"] == "4"


def test_the_coordinator_starts_requests_in_order_up_to_its_limit() -> None:
    mdt = SimulatedMdt(MDT, max_requests=2)
    first, second, third = (mdt.submit(ARCHIVE) for _ in range(3))
    assert mdt.dispatch() == [first, second]
    assert mdt.dispatch() == []
    mdt.retry(first)
    assert mdt.dispatch() == [first], "a retry comes before younger requests"
    mdt.finish(second)
    assert mdt.dispatch() == [third]
    assert mdt.running() == [first, third]


def test_a_purge_cancels_everything_and_the_list_shrinks_step_by_step() -> None:
    mdt = SimulatedMdt(MDT, deletions_per_loop=400)
    for _ in range(1000):
        mdt.submit(ARCHIVE)
    mdt.dispatch()
    mdt.purge()
    assert statuses(mdt) == [CANCELED] * 1000
    assert mdt.running() == []
    mdt.advance(60)
    sizes = []
    for _ in range(4):
        mdt.advance(10)
        sizes.append(len(mdt))
    assert sizes == [600, 200, 0, 0]


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


def test_a_coordinator_restart_has_restores_wait_again(mdt: SimulatedMdt) -> None:
    archive, restore = mdt.submit(ARCHIVE), mdt.submit(RESTORE)
    mdt.dispatch()
    mdt.set_hsm_control(STOPPED)
    assert mdt.running() == []
    assert statuses(mdt) == [STARTED, STARTED]
    mdt.set_hsm_control(ENABLED)
    assert statuses(mdt) == [STARTED, WAITING]
    assert mdt.dispatch() == [restore]
    assert not mdt.is_running(archive), "nobody knows of it any more, and it hangs until the timeout"
    mdt.advance(3610)
    assert archive.status == CANCELED


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


# Repeatability


def history(seed: int, step_s: float) -> list[bytes]:
    mdt = SimulatedMdt(MDT, seed)
    populate(mdt, 300)
    workload = Workload(mdt, arrivals_per_s=5)
    listings = []
    for _ in range(5):
        for _ in range(round(60 / step_s)):
            workload.advance(step_s)
        listings.append(mdt.listing())
    return listings


def test_everything_follows_from_the_seed_whatever_the_steps() -> None:
    assert history(1, 60) == history(1, 60) == history(1, 0.5)
    assert history(1, 60) != history(2, 60)


def test_mdts_with_one_seed_have_histories_of_their_own() -> None:
    one, two = SimulatedMdt("elm-MDT0000"), SimulatedMdt("elm-MDT0001")
    for mdt in (one, two):
        populate(mdt, 100)
    assert {record.fid for record in one.records()}.isdisjoint(record.fid for record in two.records())
    assert [record.status for record in one.records()] != [record.status for record in two.records()]


def test_populate_follows_its_mix(mdt: SimulatedMdt) -> None:
    populate(mdt, 1000, {(ARCHIVE, WAITING): 3, (REMOVE, SUCCEED): 1})
    seen = [(record.action, record.status) for record in mdt.records()]
    assert set(seen) == {(ARCHIVE, WAITING), (REMOVE, SUCCEED)}
    assert seen == sorted(seen, reverse=True), "what waits comes last"
    assert 200 < seen.count((REMOVE, SUCCEED)) < 300
    sizes = []
    for _ in range(8):
        sizes.append(len(mdt))
        mdt.advance(10)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 5, "finished ones leave one after the other"
    assert len(mdt) == seen.count((ARCHIVE, WAITING))


# Mistakes


@pytest.mark.parametrize("name", ["elm-MDT000", "elm-MDT000G", "elm", "too_long_a_name-MDT0000", "a/b-MDT0000"])
def test_a_name_that_no_mdt_has(name: str) -> None:
    with pytest.raises(ValueError, match="no MDT name"):
        SimulatedMdt(name)


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
