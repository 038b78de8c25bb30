"""The auditor's judgement: what counts as wrong in a stream, and against a reference; the report of it."""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import replace

import msgspec
import pytest
from msgspec.structs import replace as changed

from hsm_shipper.contract.action_state import ActionState, same_state
from hsm_shipper.contract.event import Event, encode, line_digest
from hsm_shipper.contract.fold import ActionFold, Entry
from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_shipper.contract.kernel_line import pack_place, parse_line
from hsm_tools.auditing.audit import (
    Comparison,
    Counts,
    Difference,
    Differences,
    Kind,
    Listing,
    MdtReport,
    Repetitions,
    compare,
    confirmed,
    exit_code,
)
from hsm_tools.auditing.audit_report import to_json, to_text
from hsm_tools.command.progress_bar import ProgressBar
from hsm_tools.live_state.health import Health, WorkerHealth, worker_health
from tests.unit.test_heartbeat import HEARTBEAT

COUNTS = Counts(entries=10, live=4, duplicates=1, purged_without_new=2, malformed=0, malformed_ids=())


def line_of(rec_idx: int, status: str = "WAITING", cookie: int | None = None) -> bytes:
    cookie = 0x100 + rec_idx if cookie is None else cookie
    return (
        f"lrh=[type=10680000 len=136 idx=1/{rec_idx}] fid=[0x1:{rec_idx:#x}:0x0] dfid=[0x1:{rec_idx:#x}:0x0] "
        f"compound/cookie=0x0/{cookie:#x} action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 "
        f"datalen=0 status={status} data=[]"
    ).encode()


def action_of(line: bytes, *, digest: bool = True) -> ActionState:
    record = parse_line(line)
    assert record is not None
    mark = line_digest(line) if digest else None
    return ActionState.make(record.place, record.fid, record.action, record.status, record.cookie, mark, None, None)


def fold_of(*lines: bytes) -> ActionFold:
    live = ActionFold()
    for line in lines:
        live.put(action_of(line))
    return live


def event(kind: str, rec_idx: int, status: str = "WAITING", **more: object) -> Event:
    fid = f"0x1:{rec_idx:#x}:0x0"
    said = {
        "event_type": kind,
        "action_key": f"{fid}:ARCHIVE",
        "cat_idx": 1,
        "rec_idx": rec_idx,
        "fid": fid,
        "action": "ARCHIVE",
        "status": status,
        "cookie": f"{0x100 + rec_idx:#x}",
        "timestamp": 1,
        "first_seen": 1,
        "status_since": 1,
        "last_status": "WAITING",
    }
    return msgspec.convert(said | more, Event)


def tally(*events: Event) -> tuple[int, int, int]:
    """Live actions, duplicates, and PURGED that removed nothing; one by one and by the page alike."""
    single, paged = Repetitions(), Repetitions()
    by_event, by_page = ActionFold(single), ActionFold(paged)
    page: list[Entry] = [(b"%d-0" % number, encode(one)) for number, one in enumerate(events, 1)]
    for entry in page:
        assert by_event.fold_page([entry]) == []
    assert by_page.fold_page(page) == []
    counts = (len(by_event), single.duplicates, single.purged_without_new)
    assert counts == (len(by_page), paged.duplicates, paged.purged_without_new)
    return counts


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([event("NEW", 1), event("UPDATE", 1, "STARTED"), event("PURGED", 1)], (0, 0, 0)),
        ([event("NEW", 1), event("NEW", 1)], (1, 1, 0)),
        ([event("NEW", 1), event("NEW", 1, "STARTED")], (1, 1, 0)),
        ([event("NEW", 1), event("NEW", 1, cookie="0x9")], (1, 0, 0)),
        ([event("NEW", 1), event("UPDATE", 1)], (1, 1, 0)),
        ([event("NEW", 1), event("UPDATE", 1, refresh=True)], (1, 0, 0)),
        ([event("UPDATE", 1), event("PURGED", 2)], (1, 0, 1)),
        ([event("NEW", 1), event("PURGED", 1), event("PURGED", 1)], (0, 0, 1)),
        ([event("NEW", 1, cookie="0x9"), event("PURGED", 1)], (1, 0, 1)),
        ([event("NEW", 1), Event("PURGED", action_key="0x1:0x1:0x0:ARCHIVE")], (0, 0, 0)),
        ([Event("PURGED", action_key="0x1:0x1:0x0:ARCHIVE")], (0, 0, 1)),
    ],
    ids=[
        "a whole life",
        "NEW twice",
        "NEW of what is live, in another state",
        "NEW of a successor in the place",
        "UPDATE without a change",
        "a refresh",
        "a stream trimmed in the middle",
        "PURGED twice",
        "PURGED of the action before",
        "PURGED of an earlier shipper",
        "PURGED of an earlier shipper without NEW",
    ],
)
def test_entries_that_say_nothing_new_are_counted(events: list[Event], expected: tuple[int, int, int]) -> None:
    assert tally(*events) == expected


def test_an_end_of_what_has_no_cookie_is_counted_once() -> None:
    assert tally(event("NEW", 1, cookie=None), event("PURGED", 2), event("PURGED", 1, fid="0x9:0x9:0x0")) == (1, 0, 2)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (action_of(line_of(1)), True),
        (action_of(line_of(1), digest=False), True),
        (action_of(line_of(1, "STARTED"), digest=False), False),
        (action_of(line_of(1, "STARTED")), False),
        (action_of(line_of(1, cookie=9)), False),
        (action_of(line_of(1, cookie=9), digest=False), False),
    ],
)
def test_one_state_is_one_line_or_one_status(other: ActionState, same: bool) -> None:
    assert same_state(action_of(line_of(1)), other) is same
    assert same_state(other, action_of(line_of(1))) is same


def test_a_comparison_finds_every_kind() -> None:
    live = fold_of(line_of(1), line_of(2), line_of(3), line_of(5))
    reference = [line_of(1), line_of(2, "STARTED"), line_of(4), line_of(5, cookie=9)]
    found = compare(live, map(action_of, reference))
    kinds = {place & 0xFFFF: difference.kind for place, difference in found.items()}
    assert kinds == {2: Kind.DIFFERING, 3: Kind.ORPHAN, 4: Kind.MISSING, 5: Kind.DIFFERING}
    assert compare(live, live) == {}


def test_a_line_that_is_not_understood_is_no_end_of_its_action() -> None:
    lines = [line_of(1), line_of(2).replace(b"compound", b"component"), line_of(3), line_of(3, "STARTED"), b"?"]
    listing = Listing([lines[:2], lines[2:]])
    assert compare(fold_of(line_of(1), line_of(2), line_of(3)), listing, listing.places_not_understood) == {}
    assert (listing.lines, listing.not_understood, listing.places_not_understood) == (5, 2, {pack_place(1, 2)})
    assert listing.example == lines[1]
    assert not listing.is_mostly_not_understood
    strange = Listing([[b"?", b"?", line_of(1)]])
    assert len(list(strange)) == 1 and strange.is_mostly_not_understood


@pytest.mark.parametrize(
    ("first", "second", "not_compared", "kinds"),
    [
        ("WAITING", "WAITING", 0, []),
        ("WAITING", "STARTED", 1, []),
        ("STARTED", "WAITING", 1, []),
        ("STARTED", "FAILED", 1, [Kind.DIFFERING]),
        ("STARTED", "STARTED", 1, [Kind.DIFFERING]),
    ],
)
def test_two_lines_for_a_place_are_told_where_the_stream_cannot_say_both(
    first: str, second: str, not_compared: int, kinds: list[Kind]
) -> None:
    listing = Listing([[line_of(1), line_of(2, first)], [line_of(2, second)]])
    found = compare(fold_of(line_of(1), line_of(2)), listing, listing.places_not_understood, listing.repeat)
    assert [difference.kind for difference in found.values()] == kinds
    assert (listing.not_understood, listing.not_compared) == (0, not_compared)


def test_only_what_stays_the_same_is_confirmed() -> None:
    waiting, started = line_of(1), line_of(1, "STARTED")
    before = compare(fold_of(waiting, line_of(2), line_of(4)), [action_of(started), action_of(line_of(3))])
    assert confirmed(before, before) == before
    shipped = compare(fold_of(started, line_of(3), line_of(4)), [action_of(line_of(1, "SUCCEED"))])
    left = confirmed(before, shipped)
    assert [difference.kind for difference in left.values()] == [Kind.ORPHAN]  # of 4; 1 has moved on, 3 is shipped
    assert confirmed(before, {}) == {}


def report(
    counts: Counts | None = COUNTS,
    state: Differences | None = None,
    listing: Differences | None = None,
    beat: Heartbeat | None = None,
    **more: str,
) -> MdtReport:
    return MdtReport(
        "elm-MDT0000",
        "hsm:actions:elm-MDT0000",
        counts,
        beat,
        worker_health(beat, 0.0),
        None if state is None else Comparison("/state", state),
        None if listing is None else Comparison("/actions", listing, more.get("untold"), doubt=more.get("doubt")),
        more.get("error"),
    )


ORPHAN = {pack_place(1, 1): Difference(action_of(line_of(1)), None)}
MALFORMED = Counts(entries=10, live=4, duplicates=0, purged_without_new=0, malformed=1, malformed_ids=("5-0",))


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([report(state={}, listing={})], 0),
        ([report(state={})], 0),
        ([report(state=ORPHAN, listing={})], 1),
        ([report(state={}, listing=ORPHAN)], 1),
        ([report(MALFORMED, state={}, listing={})], 1),
        ([report(MALFORMED)], 1),
        ([report()], 2),
        ([report(state={}, listing={}, untold="why")], 2),
        ([report(state=ORPHAN, listing={}, untold="why")], 1),
        ([report(None, error="wrong type")], 2),
        ([report(state={}, listing={}, doubt="1 of 5 lines")], 2),
        ([report(state={}, listing=ORPHAN, doubt="1 of 5 lines")], 1),
        ([report(state={}, beat=changed(HEARTBEAT, lines_not_understood=1))], 2),
        ([report(state={}, beat=changed(HEARTBEAT, lines_not_understood=0))], 0),
        ([report(state={}, beat=HEARTBEAT)], 0),
        ([report(state={}, listing={}, beat=changed(HEARTBEAT, lines_not_understood=1))], 0),
        ([report(), report(state={}, listing={})], 2),
        ([report(), report(state=ORPHAN)], 1),
        ([], 0),
    ],
)
def test_exit_codes(reports: list[MdtReport], code: int) -> None:
    assert exit_code(reports) == code


def test_one_place_counts_once() -> None:
    assert report(state=ORPHAN, listing=ORPHAN).count(Kind.ORPHAN) == 1
    assert report(state={}, listing={}).count(Kind.ORPHAN) == 0
    assert report().count(Kind.ORPHAN) is None
    assert report(listing={}, untold="why").count(Kind.MISSING) is None


def test_the_garbage_of_a_stream() -> None:
    assert COUNTS.garbage_ratio == 0.6 and COUNTS.length_bound == 1008
    assert Counts(0, 0, 0, 0, 0, ()).garbage_ratio == 0.0


def test_the_table() -> None:
    header, _, row, *remarks = to_text([report(state=ORPHAN, listing={}, untold="no worker polls")]).splitlines()
    assert header.split()[:6] == ["MDT", "verdict", "live", "orphans", "missing", "differing"]
    assert " ".join(row.split()) == "elm-MDT0000 inconsistent 4 1 0 0 0 1 2 60% 10 1,008 -"
    assert remarks == [
        "elm-MDT0000: 1 actions live in the stream, not in the state file: 1/1 0x1:0x1:0x0:ARCHIVE WAITING",
        "elm-MDT0000: no worker polls",
    ]
    _, _, row, remark = to_text([report(None, error="a list\x1b[2J")]).splitlines()
    assert row.split() == ["elm-MDT0000", "unknown", *"?" * 10, "-"] and remark == r"elm-MDT0000: a list\x1b[2J"


@pytest.mark.parametrize(
    ("worker", "shown", "word", "remarks"),
    [
        (worker_health(None, 0.0), "-", "missing", []),
        (
            worker_health(None, 0.0, "heartbeat cannot be read"),
            "unreadable",
            "unreadable",
            ["heartbeat cannot be read"],
        ),
        (WorkerHealth(Health.FRESH, 5.0, []), "5 s", "fresh", []),
        (WorkerHealth(Health.OLD, 500.0, ["last poll 500 s ago"]), "500 s (old)", "old", []),
    ],
)
def test_no_heartbeat_an_unreadable_and_an_old_one(
    worker: WorkerHealth, shown: str, word: str, remarks: list[str]
) -> None:
    audited = replace(report(state={}, listing={}), worker=worker)
    _, _, row, *said = to_text([audited]).splitlines()
    assert row.rstrip().endswith(f"  {shown}")
    assert said == [f"elm-MDT0000: {remark}" for remark in remarks]
    (told,) = json.loads(to_json([audited]))["mdts"]
    assert (told["worker"], told["heartbeat_age_s"], told["heartbeat"]) == (word, worker.age_s, None)
    assert audited.exit_code == 0


def test_many_examples_are_a_few() -> None:
    found = compare(fold_of(), (action_of(line_of(number)) for number in range(1, 10)))
    text = to_text([report(state=found, listing={})])
    assert "9 actions not in the stream, but in the state file: 1/1 " in text and text.endswith(
        "1/3 0x1:0x3:0x0:ARCHIVE WAITING, …"
    )
    audited = report(replace(COUNTS, malformed=28, malformed_ids=("1-0", "2-0")), listing={})
    assert to_text([audited]).endswith("28 malformed entries: 1-0, 2-0, …")


def test_the_json_of_what_is_not_known() -> None:
    told = json.loads(to_json([report(None, error="wrong type")]))
    assert told["verdict"] == "unknown"
    (mdt,) = told["mdts"]
    assert mdt["troubles"] == ["wrong type"]
    unknown = {key for key, value in mdt.items() if value is None}
    assert unknown == mdt.keys() - {"mdt", "stream", "verdict", "worker", "troubles"}  # all of them are there


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("output", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_a_bar_is_drawn_on_a_terminal_once_it_takes_long(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    progress = ProgressBar()
    progress.begin("elm-MDT0000", 2000)
    progress(500)
    assert output.getvalue() == ""
    now_s += 1.5
    progress(1000)
    progress(1001)  # too soon to be drawn
    progress.clear()
    progress.clear()
    drawn = "\r\x1b[Kelm-MDT0000 [###############               ]  50% of 2,000 entries\r\x1b[K"
    assert output.getvalue() == (drawn if output.isatty() else "")
