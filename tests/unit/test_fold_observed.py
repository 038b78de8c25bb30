"""By the page or one by one, with digests or without, a stream comes to the same; tools count every event once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.contract.event import decode
from hsm_shipper.contract.fold import ActionFold, DigestOf
from hsm_shipper.errors import MalformedEvent
from hsm_tools.event import EntryDecoder
from hsm_tools.live_state.observer import ToolsObserver
from hsm_tools.live_state.tally import EventKind, Tally
from tests.support.core import earlier_event, line
from tests.support.histories import Page, end, events, ours, page


def essence(live: ActionFold) -> list[tuple[Any, ...]]:
    """All that a tool asks of live actions."""
    return sorted(
        (
            action.place, action.cat_idx, action.rec_idx, action.fid, action.action, action.action_key, action.status,
            action.cookie, action.first_seen, action.status_since, action.entry_id,
        )
        for action in live
    )  # fmt: skip


def by_the_rules(live: ActionFold, entries: Page) -> list[bytes]:
    """Fold in entries one by one, decoded whole; returns the ids of those that are no events."""
    malformed = []
    for entry_id, data in entries:
        try:
            live.apply(entry_id, decode(data))
        except MalformedEvent:
            malformed.append(entry_id)
    return malformed


def digests_in(entries: Page) -> DigestOf:
    """Tells what is asked of these entries, as a replay asks the server."""
    payloads = dict(entries)
    return lambda entry_id: decode(payloads[entry_id]).line_digest


def tools_fold(tally: Tally, entries: Page | None = None) -> ActionFold:
    """The fold of a tool, of a stream with these entries."""
    return ActionFold(ToolsObserver(tally), digest_of=digests_in(entries or []))


def agree(pages: list[Page]) -> Tally:
    """Fold three ways, page by page."""
    tally = Tally()
    single, paged = ActionFold(), ActionFold()
    tools = tools_fold(tally, [entry for one in pages for entry in one])
    for one in pages:
        malformed = paged.fold_page(one)
        assert malformed == by_the_rules(single, one)
        assert list(paged) == list(single)
        assert tools.fold_page(one) == malformed
        assert essence(tools) == essence(paged)
    return tally


def test_an_event_of_ours_is_the_live_action_that_the_rules_make() -> None:
    agree([page(ours(3), ours(4, "STARTED", "UPDATE", 1060), end(3))])


@pytest.mark.parametrize(
    "missing", ["cookie", "first_seen", "status_since", "fid", "action", "status", "cat_idx", "action_key"]
)
def test_an_event_that_says_less_goes_by_the_rules(missing: str) -> None:
    for event in (ours(1), end(1)):
        agree([page(ours(1), {key: value for key, value in event.items() if key != missing})])


@pytest.mark.parametrize(
    "odd",
    [
        {"first_seen": 1000.5}, {"first_seen": None}, {"cookie": ""}, {"status": ""}, {"cat_idx": -1}, {"fid": 7},
        {"rec_idx": 2**32}, {"event_type": "OTHER"}, {"refresh": "yes"}, {"first_seen": 2**60},
        {"hash": "ab" * 16}, {"hash": "no MD5"}, {"hash": "ab" * 15 + "  "}, {"raw": None}, {"raw": 7},
    ],
    ids=repr,
)  # fmt: skip
def test_an_odd_event_is_taken_or_refused_as_the_rules_do(odd: dict[str, Any]) -> None:
    agree([page(ours(1), ours(2) | odd, ours(3))])


@pytest.mark.parametrize(
    "odd",
    [{"cookie": ""}, {"cat_idx": -1}, {"rec_idx": 2**32}, {"action": 7}, {"last_status": 7}, {"hash": "ab"}],
    ids=repr,
)
def test_an_odd_end_is_taken_or_refused_as_the_rules_do(odd: dict[str, Any]) -> None:
    agree([page(ours(1), end(1) | odd, ours(3))])


def test_an_end_of_an_action_whose_cookie_nobody_told_goes_by_the_rules() -> None:
    untold = {key: value for key, value in ours(1).items() if key not in ("cookie", "raw")}
    agree([page(untold, end(1))])
    agree([page(untold, end(1, fid="0x1:0x1:0x0"))])


@pytest.mark.parametrize("key", ["fid", "mdt", "host"])
def test_an_end_with_a_wrong_type_anywhere_is_no_event_as_for_consumers(key: str) -> None:
    entries = page(ours(1), end(1, **{key: 7}))
    assert ActionFold().fold_page(entries) == [b"2-0"] == consumers_refuse(entries)


@pytest.mark.parametrize(
    ("raw", "archive"),
    [
        (line(1, archive_id=7).decode(), 7),
        (line(1, archive_id=4_000_000_000).decode(), 4_000_000_000),
        (line(1).decode().replace(" archive#=1 ", " "), None),
        (line(1).decode().replace(" archive#=1 ", " archive#=one "), None),
        (line(1, archive_id=7).decode().replace("action=ARCHIVE", "action=A#=1"), 7),
        ("# archive#=7", 7),
        (" archive#=7", 7),
        (" archive#=-1 flags", 4_294_967_295),
        (" archive#=12345678901 flags", None),
        ("no line of the kernel's", None),
        (None, None),
    ],
)
def test_the_archive_is_what_raw_tells(raw: str | None, archive: int | None) -> None:
    told = [ours(1, raw=raw), {key: value for key, value in ours(2, raw=raw).items() if key != "status_since"}]
    live = tools_fold(Tally())
    assert live.fold_page(page(*told, ours(3, raw=line(3, archive_id=1).decode()))) == []
    assert [action.archive_id for action in live] == [archive, archive, 1]


def test_no_entry_can_tell_an_archive_but_by_raw() -> None:
    live = tools_fold(Tally())
    assert live.fold_page(page(ours(1, raw=None) | {"archive_id": 7}, ours(2) | {"archive_id": 7})) == []
    assert [action.archive_id for action in live] == [None, 1]


def test_archives_of_a_stream_full_of_nonsense_are_not_all_kept() -> None:
    observer = ToolsObserver(Tally())
    live = ActionFold(observer)
    live.fold_page(page(*(ours(rec, raw=line(rec, archive_id=rec).decode()) for rec in range(2000))))
    assert [action.archive_id for action in live] == list(range(2000))
    live.fold_page(page(*(ours(rec, raw=f" archive#={rec}x") for rec in range(500))))
    assert len(observer._archive_ids) == 1000


@pytest.mark.parametrize("data", [None, b"", b"{", b"\xff", b"[" * 5000, b"null", b'{"event_type":"NEW"}'], ids=repr)
def test_an_entry_that_is_no_event_is_named(data: bytes | None) -> None:
    live = tools_fold(tally := Tally())
    assert live.fold_page(page(ours(1), data)) == [b"2-0"]
    assert (tally.malformed, tally.events.total(), len(live)) == (1, 1, 1)


def test_an_end_that_names_another_cookie_is_too_late() -> None:
    agree([page(ours(1, number=9), end(1))])
    live = tools_fold(Tally())
    live.fold_page(page(ours(1, number=9), end(1)))
    assert len(live) == 1


def test_events_are_counted_once_though_a_stream_is_folded_anew() -> None:
    tally = Tally()
    first = page(ours(1), ours(1, "STARTED", "UPDATE", 1060), b"no event")
    tools_fold(tally).fold_page(first)
    tools_fold(tally).fold_page([*first, (b"9-0", msgspec.json.encode(ours(2)))])
    assert tally.events == {EventKind("NEW", "ARCHIVE", "WAITING"): 2, EventKind("UPDATE", "ARCHIVE", "STARTED"): 1}
    assert tally.durations["ARCHIVE", "STARTED"].percentiles([1.0]) == [60]
    assert tally.malformed == 1


def test_a_refresh_and_a_repetition_are_not_timed() -> None:
    tally = Tally()
    refresh = ours(1, "STARTED", "UPDATE", refresh=True)
    repeated = ours(1, "STARTED", "UPDATE") | {"timestamp": 2000}
    tools_fold(tally).fold_page(page(refresh, repeated))
    assert tally.durations == {}
    assert tally.events == {EventKind("REFRESH", "ARCHIVE", "STARTED"): 1, EventKind("UPDATE", "ARCHIVE", "STARTED"): 1}


def test_of_an_earlier_shippers_end_the_place_tells_the_outcome() -> None:
    tally = Tally()
    late = earlier_event(line(1), "PURGED") | {"status": "PURGED"}
    tools_fold(tally).fold_page(page(earlier_event(line(1, "SUCCEED")), late))
    assert tally.events[EventKind("PURGED", "ARCHIVE", "SUCCEED")] == 1


@given(st.lists(st.lists(events(), max_size=6), max_size=5))
def test_all_folds_agree_over_any_history(history: list[list[Any]]) -> None:
    numbered = iter(page(*(event for events in history for event in events)))
    tally = agree([[next(numbered) for _ in events] for events in history])
    assert tally.events.total() + tally.malformed == sum(map(len, history))


def is_utf8(data: bytes) -> bool:
    """Whether it is text at all, as JSON must be."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def consumers_refuse(entries: Page) -> list[bytes]:
    """The entries of which consumers get no event, or none of the contract."""
    refused: list[bytes] = []
    listed: list[Any] = [(entry_id, [b"data", data]) for entry_id, data in entries]
    for event in EntryDecoder(refreshes=True).events(
        b"hsm:actions:elm-MDT0000", listed, lambda _, entry_id: refused.append(entry_id)
    ):
        try:
            assert event.event is not None
        except MalformedEvent:
            refused.append(event.id.encode())
    return sorted(refused)


@pytest.mark.parametrize("what", [ours(1, raw=None, hash="ab" * 16), end(1)], ids=["NEW", "PURGED"])
@pytest.mark.parametrize("key", ["mdt", "host", "action_key", "fid", "cookie", "raw", "unheard_of"])
def test_bytes_that_are_no_text_make_no_event_wherever_they_are(what: dict[str, Any], key: str) -> None:
    entries = page(ours(1), msgspec.json.encode(what | {key: "e-MDT\u00a30"}).replace(b"\xc2\xa3", b"\xa3"))
    agree([entries])
    assert ActionFold().fold_page(entries) == [b"2-0"] == consumers_refuse(entries)


@given(st.data(), st.lists(events().filter(lambda event: isinstance(event, dict)), min_size=1, max_size=4))
def test_all_folds_and_consumers_agree_on_bytes_that_strayed_in(data: st.DataObject, history: list[Any]) -> None:
    entries: Page = []
    for entry_id, encoded in page(*history):
        assert encoded is not None
        at = data.draw(st.integers(0, len(encoded)))
        stray = data.draw(
            st.sampled_from([b"", b"\xa3", b"\xff", b"\xc2\xa3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xc2"])
        )
        entries.append((entry_id, encoded[:at] + stray + encoded[at:]))
    agree([entries])
    malformed = ActionFold().fold_page(entries)
    assert {entry_id for entry_id, encoded in entries if not is_utf8(encoded or b"")} <= set(malformed)
    assert malformed == consumers_refuse(entries)
