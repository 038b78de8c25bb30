"""The events on the wire: what ours carry, what is read of earlier shippers', and what is refused."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.contract.event import NEW, PURGED, UPDATE, Event, decode, encode, line_digest
from hsm_shipper.contract.kernel_line import pack_place, parse_line, unpack_place
from hsm_shipper.errors import MalformedEvent
from hsm_shipper.worker.changes import ChangeWriter
from hsm_shipper.worker.held_lines import NewLine
from tests.support.core import HOST, MDT, digest, earlier_event, line, live_action

STATE_KEYS = {
    "event_type", "mdt", "cat_idx", "rec_idx", "fid", "action", "status", "timestamp", "action_key",
    "cookie", "first_seen", "status_since", "host",
}  # fmt: skip
PURGED_KEYS = STATE_KEYS | {"hash", "last_status"}
NOT_UTF8 = line(3) + b" owner=\xff\xfe"


def state_on_wire(data: bytes, *, include_raw: bool = True, update: bool = False) -> dict[str, Any]:
    """The object that the shipper appends when it sees `data`."""
    record = parse_line(data)
    assert record is not None
    before = live_action(line(3, "STARTED")) if update else None
    change = ChangeWriter(MDT, HOST, include_raw).state(NewLine(data, digest(data), record), before, 1000)
    assert change.payload is not None
    return dict(msgspec.json.decode(change.payload))


def purged_on_wire(data: bytes, **changes: Any) -> dict[str, Any]:
    """The object that the shipper appends when the action of `data` is gone."""
    before = live_action(data, **changes)
    change = ChangeWriter(MDT, HOST).purged(before, 1000)
    assert change.payload is not None
    return dict(msgspec.json.decode(change.payload))


def test_new_carries_the_contract_and_our_additions() -> None:
    assert state_on_wire(line(3, cat=2)) == {
        "event_type": "NEW",
        "mdt": "elm-MDT0000",
        "cat_idx": 2,
        "rec_idx": 3,
        "fid": "0x200000401:0x3:0x0",
        "action": "ARCHIVE",
        "status": "WAITING",
        "timestamp": 1000,
        "raw": line(3, cat=2).decode(),
        "action_key": "0x200000401:0x3:0x0:ARCHIVE",
        "cookie": "0x6b020003",
        "first_seen": 1000,
        "status_since": 1000,
        "host": "mds1",
    }


def test_update_carries_the_same_keys_as_new() -> None:
    event = state_on_wire(line(3, "SUCCEED"), update=True)
    assert event.keys() == STATE_KEYS | {"raw"}
    assert (event["event_type"], event["first_seen"], event["status_since"]) == ("UPDATE", 100, 1000)


def test_purged_carries_the_contract_and_our_additions() -> None:
    assert purged_on_wire(line(3, "SUCCEED", cat=2)) == {
        "event_type": "PURGED",
        "status": "PURGED",
        "mdt": "elm-MDT0000",
        "cat_idx": 2,
        "rec_idx": 3,
        "timestamp": 1000,
        "action_key": "0x200000401:0x3:0x0:ARCHIVE",
        "fid": "0x200000401:0x3:0x0",
        "action": "ARCHIVE",
        "hash": digest(line(3, "SUCCEED", cat=2)).hex(),
        "cookie": "0x6b020003",
        "first_seen": 100,
        "status_since": 200,
        "host": "mds1",
        "last_status": "SUCCEED",
    }


def test_purged_leaves_out_what_the_stream_never_told() -> None:
    unknown = purged_on_wire(line(3), cookie=None, digest=None, first_seen=None, status_since=None)
    assert unknown.keys() == PURGED_KEYS - {"cookie", "hash", "first_seen", "status_since"}


@pytest.mark.parametrize("update", [False, True], ids=[NEW, UPDATE])
def test_without_raw_the_hash_is_carried_instead(update: bool) -> None:
    event = state_on_wire(line(3), include_raw=False, update=update)
    assert event.keys() == STATE_KEYS | {"hash"}
    assert event["hash"] == digest(line(3)).hex()


def test_a_line_that_is_no_utf8_is_carried_readably_with_the_hash_of_its_bytes() -> None:
    event = state_on_wire(NOT_UTF8)
    assert event.keys() == STATE_KEYS | {"hash", "raw"}
    assert event["hash"] == digest(NOT_UTF8).hex()
    assert event["raw"] == line(3).decode() + " owner=\ufffd\ufffd"


@pytest.mark.parametrize("include_raw", [True, False])
@pytest.mark.parametrize("data", [line(3), NOT_UTF8], ids=["UTF-8", "other bytes"])
def test_a_reader_learns_the_digest_of_the_very_line(data: bytes, include_raw: bool) -> None:
    event = decode(msgspec.json.encode(state_on_wire(data, include_raw=include_raw)))
    assert event.line_digest == digest(data)


def test_digest_is_that_of_raw_unless_the_hash_is_told() -> None:
    assert Event(NEW, raw="é").line_digest == line_digest("é".encode())
    assert Event(NEW, raw="é", hash="ab" * 16).line_digest == bytes.fromhex("ab" * 16)
    assert Event(NEW).line_digest is None


words = st.text(min_size=1)
times = st.none() | st.integers(0, 2**40)
u32 = st.integers(0, 2**32 - 1)
hashes = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(
    st.builds(
        Event,
        st.sampled_from([NEW, UPDATE, PURGED]),
        words, st.none() | words, u32, u32, words, words, words, times,
        st.none() | st.text(), st.none() | hashes, words, times, times, st.none() | words, st.none() | words,
        st.booleans(),
    )
)  # fmt: skip
def test_what_is_encoded_is_decoded_again(event: Event) -> None:
    assert decode(encode(event)) == event


# Streams of earlier shippers


def decoded(event: dict[str, Any]) -> Event:
    """What is read of this object."""
    return decode(msgspec.json.encode(event))


def test_the_cookie_that_an_earlier_shipper_did_not_name_is_read_from_raw() -> None:
    event = decoded(earlier_event(line(3)))
    assert (event.cookie, event.first_seen, event.host, event.refresh) == ("0x6b020003", None, None, False)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"cat_idx": None, "rec_idx": None},
        {"cat_idx": 7},
        {"rec_idx": 7},
        {"fid": None, "action": None, "status": None},
        {"cat_idx": 7, "cookie": "0x6b020003", "fid": "0x200000401:0x3:0x0", "action": "ARCHIVE", "status": "WAITING"},
        {"rec_idx": 7, "cookie": "0x6b020003", "fid": "0x200000401:0x3:0x0", "action": "ARCHIVE", "status": "WAITING"},
    ],
    ids=count(),
)
def test_what_an_entry_does_not_name_is_read_from_raw(named: dict[str, Any]) -> None:
    event = earlier_event(line(3, cat=2))
    for key in ("cat_idx", "rec_idx", "fid", "action", "action_key", "status"):
        del event[key]
    read = decoded(event | named)
    assert read.place is not None
    assert unpack_place(read.place) == (2, 3)
    assert (read.fid, read.action, read.status) == ("0x200000401:0x3:0x0", "ARCHIVE", "WAITING")
    assert read.cookie == "0x6b020003"


@pytest.mark.parametrize("named", [{"fid": "0x1:0x2:0x0"}, {"action": "X"}], ids=["FID", "action"])
def test_what_purged_does_not_name_is_read_from_its_action_key(named: dict[str, Any]) -> None:
    read = decoded({"event_type": "PURGED", "action_key": "0x1:0x2:0x0:X"} | named)
    assert (read.fid, read.action) == ("0x1:0x2:0x0", "X")


@pytest.mark.parametrize("place", [{}, {"cat_idx": None, "rec_idx": None}, {"cat_idx": 1}], ids=count())
def test_purged_with_only_an_action_key_names_fid_and_action_and_no_place(place: dict[str, Any]) -> None:
    key = {"event_type": "PURGED", "action_key": "0x200000401:0x3:0x0:ARCHIVE", "timestamp": 1.5, "status": "PURGED"}
    read = decoded(key | place)
    assert (read.fid, read.action, read.place) == ("0x200000401:0x3:0x0", "ARCHIVE", None)


def test_purged_without_its_action_key_gets_one() -> None:
    assert decoded({"event_type": "PURGED", "fid": "0x1:0x2:0x0", "action": "X"}).action_key == "0x1:0x2:0x0:X"


def test_purged_may_name_its_action_by_place_and_cookie_alone() -> None:
    read = decoded({"event_type": "PURGED", "cat_idx": 1, "rec_idx": 2, "cookie": "0x5"})
    assert (read.place, read.cookie) == (pack_place(1, 2), "0x5")


def test_keys_that_nobody_knows_are_passed_over() -> None:
    assert decoded(earlier_event(line(3)) | {"colour": ["red"], "": {}}) == decoded(earlier_event(line(3)))


# What is refused

FINE: dict[str, Any] = {
    "event_type": "NEW", "cat_idx": 1, "rec_idx": 1, "fid": "0x1:0x1:0x0", "action": "ARCHIVE", "status": "WAITING",
}  # fmt: skip
WITHOUT_PLACE = {"event_type": "NEW", "fid": "0x1:0x1:0x0", "action": "ARCHIVE", "status": "WAITING"}


def test_the_object_that_the_malformed_ones_are_made_of_is_fine() -> None:
    assert decoded(FINE).place == pack_place(1, 1)


@pytest.mark.parametrize(
    "event",
    [
        {},
        FINE | {"event_type": "REFRESH"},
        FINE | {"event_type": None},
        FINE | {"cat_idx": "1"},
        FINE | {"cat_idx": -(2**31) - 1},
        FINE | {"rec_idx": 2**32},
        FINE | {"cat_idx": 1.5},
        FINE | {"fid": ""},
        FINE | {"action": None},
        FINE | {"status": ""},
        FINE | {"timestamp": "yesterday"},
        FINE | {"cookie": 5},
        FINE | {"hash": "xyz"},
        FINE | {"hash": "ab" * 15},
        FINE | {"raw": 5},
        FINE | {"raw": line(2).decode()},
        FINE | {"cat_idx": 2, "raw": line(1).decode()},
        FINE | {"refresh": "yes"},
        WITHOUT_PLACE,
        WITHOUT_PLACE | {"cat_idx": 1},
        WITHOUT_PLACE | {"raw": line()[:-5].decode()},
        WITHOUT_PLACE | {"cat_idx": None, "rec_idx": None},
        {"event_type": "PURGED"},
        {"event_type": "PURGED", "action_key": ""},
        {"event_type": "PURGED", "action_key": "no colon"},
        {"event_type": "PURGED", "cat_idx": 1, "rec_idx": 1},
        {"event_type": "PURGED", "fid": "0x1:0x1:0x0"},
        {"event_type": "PURGED", "cookie": "0x5"},
    ],
    ids=str,
)
def test_an_event_that_says_nothing_of_use_is_malformed(event: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvent):
        decoded(event)


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"null",
        b"[]",
        b"{",
        b'"NEW"',
        b"\xff\xfe",
        msgspec.json.encode(FINE)[:-1],
        msgspec.json.encode(FINE) + b"x",
        msgspec.json.encode(FINE).replace(b"WAITING", b"WAIT\xffNG"),
        msgspec.json.encode(FINE).replace(b"WAITING", rb"\ud800"),
        msgspec.json.encode(FINE | {"timestamp": 0}).replace(b":0}", b":1e400}"),
        msgspec.json.encode(FINE | {"timestamp": 0}).replace(b":0}", b":" + b"9" * 5000 + b"}"),
    ],
    ids=count(),
)
def test_an_entry_that_is_no_event_is_malformed(data: bytes | None) -> None:
    with pytest.raises(MalformedEvent):
        decode(data)


@pytest.mark.parametrize("opening", [b"[", b'{"x":'], ids=["arrays", "objects"])
def test_an_entry_nested_ten_thousand_deep_is_malformed(opening: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(b'{"event_type":"NEW","x":' + opening * 10_000)


def decodes_or_is_malformed(data: bytes) -> None:
    """Anything but an event or a `MalformedEvent` fails the test."""
    try:
        event = decode(data)
    except MalformedEvent:
        return
    assert event.place is not None or (event.event_type == PURGED and event.action_key)


@given(st.binary())
def test_no_bytes_raise_anything_but_malformed(data: bytes) -> None:
    decodes_or_is_malformed(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_no_json_raises_anything_but_malformed(value: object) -> None:
    decodes_or_is_malformed(msgspec.json.encode(value))


keys = st.sampled_from([field.encode_name for field in msgspec.structs.fields(Event)])
likely = st.sampled_from([NEW, UPDATE, PURGED, "", ":", "0x1:0x1:0x0", line().decode(), "ab" * 16, 1, 2**32, -1, 1e300])


@given(st.dictionaries(keys, likely | json_values))
def test_no_value_of_a_key_of_ours_raises_anything_but_malformed(values: dict[str, object]) -> None:
    decodes_or_is_malformed(msgspec.json.encode(FINE | values))


@pytest.mark.parametrize("named", [True, False])
def test_a_place_that_was_printed_with_a_sign_has_none(named: bool) -> None:
    data = line(5, cat=-1_499_225_008)
    said = {"event_type": "NEW", "raw": data.decode()} | ({"cat_idx": -1_499_225_008, "rec_idx": 5} if named else {})
    event = decode(msgspec.json.encode(said))
    assert (event.cat_idx, event.rec_idx) == (2_795_742_288, 5)


@pytest.mark.parametrize("cat_idx", [-0x8000_0001, 0x1_0000_0000])
def test_a_place_that_no_int_and_no_unsigned_has_is_malformed(cat_idx: int) -> None:
    with pytest.raises(MalformedEvent):
        decode(msgspec.json.encode({"event_type": "NEW", "raw": line().decode(), "cat_idx": cat_idx, "rec_idx": 5}))
