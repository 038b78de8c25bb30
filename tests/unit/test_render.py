"""Lines for people: the spec's form, and nothing in them that a terminal could obey."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.process.output import printable
from hsm_tools.consumer import StreamEvent
from hsm_tools.tailing.event_line import event_line, facts

STREAM = "hsm:actions:elm-MDT0001"
RESTORE: dict[str, Any] = {
    "event_type": "UPDATE", "mdt": "elm-MDT0001", "fid": "0x200000401:0x3:0x0", "action": "RESTORE",
    "status": "STARTED", "timestamp": 1759401125,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _utc(set_zone: Callable[[str], None]) -> None:
    set_zone("UTC")


def line(**changes: Any) -> str:
    data = {key: value for key, value in (RESTORE | changes).items() if value is not ...}
    return shown(StreamEvent(STREAM, "1759453925123-0", data))


def shown(event: StreamEvent, path: str | None = None) -> str:
    return event_line(event, facts(event), path)


def test_the_specs_line() -> None:
    expected = "2025-10-02 10:32:05 [elm-MDT0001] RESTORE  STARTED  -> [0x200000401:0x3:0x0] (id: 1759453925123-0)"
    assert line() == expected
    assert line(fid="[0x200000401:0x3:0x0]") == expected


def test_a_refresh_is_marked() -> None:
    assert line(refresh=True).endswith("(id: 1759453925123-0, refresh)")
    assert line(refresh="no").endswith("(id: 1759453925123-0)")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mdt": ...}, "[elm-MDT0001]"),
        ({"fid": ..., "action": ..., "action_key": "0x1:0x2:0x0:REMOVE"}, "REMOVE   STARTED  -> [0x1:0x2:0x0]"),
        ({"fid": ..., "action": ...}, "?        STARTED  -> [?]"),
        ({"status": ...}, "RESTORE  ?        ->"),
        ({"status": 7, "action": ["x"]}, "?        7        ->"),
        ({"timestamp": 1759401125.9}, "2025-10-02 10:32:05 ["),
        ({"timestamp": ...}, "2025-10-03 01:12:05 ["),
        ({"timestamp": "yesterday"}, "2025-10-03 01:12:05 ["),
        ({"timestamp": True}, "2025-10-03 01:12:05 ["),
        ({"timestamp": float("nan")}, "2025-10-03 01:12:05 ["),
        ({"timestamp": 10**30}, "????-??-?? ??:??:?? ["),
        ({"timestamp": -1}, "????-??-?? ??:??:?? ["),
    ],
)
def test_what_an_event_does_not_say(changes: dict[str, Any], expected: str) -> None:
    assert expected in line(**changes)


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\tc\x00\x7f", r"a\x0ab\x0d\x09c\x00\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028\u2029\ufeff\u200b", r"\u2028\u2029\ufeff\u200b"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
        ("été 雪 \\x1b", "été 雪 \\x1b"),
    ],
)
def test_controls_become_visible(hostile: str, harmless: str) -> None:
    assert printable(hostile) == harmless


@given(st.text(st.characters(max_codepoint=sys.maxunicode)))
def test_nothing_unprintable_is_left(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("mdt", "fid", "action", "status", "timestamp", "action_key", "refresh"),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2),
        ),
    ),
    st.text(),
    st.text(),
    st.none() | st.text(),
)
def test_any_event_is_one_printable_line(data: dict[str, Any], stream: str, entry_id: str, path: str | None) -> None:
    assert shown(StreamEvent(stream, entry_id, data), path).isprintable()
