"""What an event gives typed access to: the contract's event, the kernel's line, and how an action ended."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.contract.event import decode
from hsm_shipper.contract.kernel_line import parse_line, unpack_place
from hsm_shipper.errors import MalformedEvent
from hsm_tools.event import EntryDecoder, StreamEvent
from hsm_tools.record import parse_record
from tests.support.core import FIXTURES, line

STREAM = "hsm:actions:elm-MDT0000"
LINES = [text for file in sorted(FIXTURES.glob("*/*.txt")) for text in Path(file).read_text().splitlines()]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)
NAMES = "event_type mdt cat_idx rec_idx raw timestamp first_seen status_since last_status fid action status cookie hash"
KEYS = st.sampled_from([*NAMES.split(), "action_key", "refresh"])


def event(**data: Any) -> StreamEvent:
    return StreamEvent(STREAM, "1759401125123-4", data)


def purged(last_status: str | None, **times: Any) -> StreamEvent:
    return event(event_type="PURGED", status="PURGED", last_status=last_status, **times)


def test_every_field_of_a_line() -> None:
    record = parse_record(
        "lrh=[type=10680000 len=136 idx=1/3] fid=[0x200000401:0x3:0x0] dfid=[0x200000401:0x4:0x0] "
        "compound/cookie=0x5/0x6b02856a action=RESTORE archive#=-294967296 flags=0x4 extent=0x10-0x20 gid=0x2a "
        "datalen=5 status=STARTED data=[0102AABBCC] new=1"
    )
    assert record is not None
    assert (record.cat_idx, record.rec_idx, record.fid, record.dfid) == (
        1, 3, "0x200000401:0x3:0x0", "0x200000401:0x4:0x0",
    )  # fmt: skip
    assert (record.compound_id, record.cookie, record.action) == ("0x5", "0x6b02856a", "RESTORE")
    assert (record.archive_id, record.flags, record.gid) == (4_000_000_000, 4, 42)
    assert (record.extent_offset_bytes, record.extent_length_bytes) == (16, 32)
    assert (record.datalen_bytes, record.status, record.data) == (5, "STARTED", "0102AABBCC")
    whole = parse_record(line().decode())
    assert whole is not None and whole.extent_length_bytes is None


def agree(text: str) -> None:
    understood, record = parse_line(text.encode(errors="surrogatepass")), parse_record(text)
    assert (understood is None) == (record is None)
    if understood is not None and record is not None:
        assert (record.cat_idx, record.rec_idx) == unpack_place(understood.place)
        assert (record.fid, record.action, record.status, record.cookie) == (
            understood.fid, understood.action, understood.status, understood.cookie,
        )  # fmt: skip


def test_it_understands_the_kernels_lines_that_the_shipper_does() -> None:
    assert len(LINES) > 300
    for text in LINES:
        agree(text)


@given(st.sampled_from(LINES[::20]), st.data())
def test_it_understands_what_the_shipper_does_of_damaged_lines(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    agree(text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :])
    agree(text.replace("data=[", "data=[" + data.draw(st.text(max_size=3))))
    agree(text.replace("action=", "action=" + data.draw(st.text("=/[]-A", max_size=3))))


@given(st.sampled_from(LINES))
def test_the_typed_event_is_the_shippers(raw: str) -> None:
    data = {"event_type": "NEW", "mdt": "elm-MDT0000", "raw": raw, "timestamp": 5}
    encoded = json.dumps(data).encode()
    try:
        expected = decode(encoded)
    except MalformedEvent:
        with pytest.raises(MalformedEvent):
            assert event(**data).event
    else:
        assert event(**data).event == expected


@given(st.dictionaries(KEYS | st.text(), JSON, max_size=6))
def test_nothing_that_json_can_say_trips_it(data: dict[str, Any]) -> None:
    it = StreamEvent(STREAM, "1759401125123-4", json.loads(json.dumps(data)))
    assert isinstance(it.mdt, str) and it.time.tzinfo is UTC
    assert it.outcome is None or isinstance(it.outcome, str)
    assert it.duration_s is None or it.duration_s >= 0
    assert it.record is None or it.record.fid
    with contextlib.suppress(MalformedEvent):
        assert it.event.event_type


def test_mdt_and_time_are_the_events_or_its_entrys() -> None:
    assert (event(mdt="fs-MDT0001").mdt, event(mdt=5).mdt, event().mdt) == ("fs-MDT0001", "elm-MDT0000", "elm-MDT0000")
    assert event(timestamp=1759401125).time == datetime(2025, 10, 2, 10, 32, 5, tzinfo=UTC)
    assert event(timestamp="x").time == datetime(2025, 10, 2, 10, 32, 5, 123000, tzinfo=UTC)
    assert event(timestamp=1e300).time.year == 2025
    assert StreamEvent(STREAM, "18446744073709551615-0", {}).time.year == 9999


@pytest.mark.parametrize(
    ("last_status", "times", "duration_s"),
    [
        ("SUCCEED", {"first_seen": 100, "status_since": 130, "timestamp": 200}, 30),
        ("FAILED", {"first_seen": 100, "status_since": 100, "timestamp": 200}, 0),
        ("CANCELED", {"first_seen": 100, "status_since": 90, "timestamp": 200}, 0),
        ("STARTED", {"first_seen": 100, "status_since": 130, "timestamp": 200}, 100),
        ("SUCCEED", {"first_seen": 100, "timestamp": 200}, None),
        ("SUCCEED", {"status_since": 130, "timestamp": 200}, None),
        ("SUCCEED", {"first_seen": True, "status_since": 130}, None),
        (None, {"first_seen": 100, "status_since": 130, "timestamp": 200}, None),
    ],
)
def test_how_an_action_ended_and_how_long_it_took(
    last_status: str | None, times: dict[str, Any], duration_s: float | None
) -> None:
    it = purged(last_status, **times)
    assert (it.outcome, it.duration_s) == (last_status, duration_s)


def test_only_a_purged_has_an_outcome() -> None:
    it = event(event_type="UPDATE", status="SUCCEED", last_status="SUCCEED", first_seen=1, status_since=2)
    assert (it.outcome, it.duration_s, it.record) == (None, None, None)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "9" * 5000])
def test_a_number_beyond_floats_where_no_fold_looks_keeps_nothing_from_consumers(number: str) -> None:
    data = b'{"event_type":"NEW","cat_idx":1,"rec_idx":2,"fid":"f","action":"A","status":"S","x":%b}' % number.encode()
    decoder = EntryDecoder(refreshes=True)
    [given] = decoder.events(STREAM.encode(), [(b"1-0", [b"data", data])], lambda *_: None)
    assert given.event == decode(data) and decoder.malformed == 0
