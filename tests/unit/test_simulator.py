"""The simulated coordinator against what real Lustre prints (tests/fixtures/actions) and does (noted in its code)."""

from __future__ import annotations

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
    SUCCEED,
    WAITING,
    Record,
    SimulatedMdt,
    populate,
)
from tests.unit.listings import MDT, parse

FIXTURES = Path(__file__).parents[1] / "fixtures/actions"


def statuses(mdt: SimulatedMdt) -> list[str]:
    return [parse(line)["status"] for line in mdt.lines()]


def places(mdt: SimulatedMdt) -> list[tuple[int, int]]:
    return list(mdt.by_place())


# Lines


@pytest.mark.parametrize(
    "path", sorted(FIXTURES.glob("lustre-*/*.txt")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
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


# Mistakes


@pytest.mark.parametrize("name", ["elm-MDT000", "elm-MDT000G", "elm", "too_long_a_name-MDT0000", "a/b-MDT0000"])
def test_a_name_that_no_mdt_has(name: str) -> None:
    with pytest.raises(ValueError, match="no MDT name"):
        SimulatedMdt(name)
