"""The life that the simulator gives an MDT: busy as real ones, and the same again from the same seed."""

from __future__ import annotations

from tests.simulator import (
    ARCHIVE,
    REMOVE,
    RESTORE,
    SUCCEED,
    WAITING,
    SimulatedMdt,
    Workload,
    populate,
)
from tests.unit.listings import MDT, parse


def test_a_busy_list_has_the_shape_of_real_ones() -> None:
    mdt = SimulatedMdt(MDT, max_requests=300)  # too few for what arrives: a queue forms
    populate(mdt, 2000)
    workload = Workload(mdt, arrivals_per_s=20)
    for _ in range(20):
        workload.advance(10)
        lines = mdt.lines()
        fields = [parse(line) for line in lines]
        assert list(mdt.by_place()) == sorted(mdt.by_place())
        assert len(mdt.by_place()) == len(lines) == len(mdt)
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
