"""Golden lines of `hsm-stream-tail`: fixed events, and their exact text in every form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm_shipper.errors import ConfigError
from hsm_tools.command.colour import Colours, colours_for_stdout
from hsm_tools.command.filters import ActionFilter, glob_matcher
from hsm_tools.consumer import StreamEvent
from hsm_tools.tailing.event_line import Facts, event_line, facts
from hsm_tools.tailing.template import FIELDS, parse_template
from hsm_tools.tailing.view import EventView, json_lines

RAW = (
    "lrh=[type=10680000 len=136 idx=1/3] fid=[0x200000401:0x3:0x0] dfid=[0x200000401:0x3:0x0] compound/"
    "cookie=0x0/0x6b02 action=RESTORE"
    " archive#=2 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 datalen=0 status=STARTED data=[]"
)
BASE: dict[str, Any] = {
    "event_type": "UPDATE", "mdt": "elm-MDT0001", "fid": "0x200000401:0x3:0x0", "action": "RESTORE",
    "status": "STARTED", "timestamp": 1759401125, "first_seen": 1759393500, "cookie": "0x6b02", "host": "mds1",
}  # fmt: skip
EVIL = "/lustre/\x1b[2J\x9b31m\u202egpj\x7f.dat\nnext"


@pytest.fixture(autouse=True)
def _utc(set_zone: Callable[[str], None]) -> None:
    set_zone("UTC")


def event(**changes: Any) -> StreamEvent:
    data = {name: value for name, value in (BASE | changes).items() if value is not ...}
    return StreamEvent("hsm:actions:elm-MDT0001", "1759453925123-0", data)


GOLDEN = [
    (
        event(),
        "/lustre/project/data/simulation_run_42/output.dat",
        "2025-10-02 10:32:05 [elm-MDT0001] RESTORE  STARTED  -> /lustre/project/data/simulation_run_42/output.dat"
        " (id: 1759453925123-0)",
        "2025-10-02 10:32:05 [elm-MDT0001] RESTORE  \x1b[36mSTARTED\x1b[0m  -> "
        "/lustre/project/data/simulation_run_42/output.dat \x1b[2m(id: 1759453925123-0)\x1b[0m",
    ),
    (
        event(status="FAILED", action="ARCHIVE"),
        None,
        "2025-10-02 10:32:05 [elm-MDT0001] ARCHIVE  FAILED   -> [0x200000401:0x3:0x0] (id: 1759453925123-0)",
        "2025-10-02 10:32:05 [elm-MDT0001] ARCHIVE  \x1b[1;31mFAILED\x1b[0m   -> [0x200000401:0x3:0x0] "
        "\x1b[2m(id: 1759453925123-0)\x1b[0m",
    ),
    (
        event(status="WAITING", refresh=True),
        EVIL,
        r"2025-10-02 10:32:05 [elm-MDT0001] RESTORE  WAITING  -> /lustre/\x1b[2J\x9b31m\u202egpj\x7f.dat\x0anext"
        " (id: 1759453925123-0, refresh)",
        r"2025-10-02 10:32:05 [elm-MDT0001] RESTORE  WAITING  -> /lustre/\x1b[2J\x9b31m\u202egpj\x7f.dat\x0anext "
        "\x1b[2m(id: 1759453925123-0, refresh)\x1b[0m",
    ),
    (
        event(event_type="PURGED", status="PURGED", last_status="SUCCEED"),
        None,
        "2025-10-02 10:32:05 [elm-MDT0001] RESTORE  PURGED   -> [0x200000401:0x3:0x0] (id: 1759453925123-0)",
        "2025-10-02 10:32:05 [elm-MDT0001] RESTORE  \x1b[2mPURGED\x1b[0m   -> [0x200000401:0x3:0x0] "
        "\x1b[2m(id: 1759453925123-0)\x1b[0m",
    ),
    (
        event(status="\x1b[31mFAILED"),
        None,
        r"2025-10-02 10:32:05 [elm-MDT0001] RESTORE  \x1b[31mFAILED -> [0x200000401:0x3:0x0] (id: 1759453925123-0)",
        r"2025-10-02 10:32:05 [elm-MDT0001] RESTORE  \x1b[31mFAILED -> [0x200000401:0x3:0x0] "
        "\x1b[2m(id: 1759453925123-0)\x1b[0m",
    ),
]


@pytest.mark.parametrize(("shown", "path", "plain", "coloured"), GOLDEN)
def test_golden_lines(shown: StreamEvent, path: str | None, plain: str, coloured: str) -> None:
    assert event_line(shown, facts(shown), path) == plain
    assert event_line(shown, facts(shown), path, Colours(True)) == coloured


def test_a_golden_json_line() -> None:
    shown = event(host="m\x7fds\u202e1")
    assert json_lines()(shown, facts(shown), EVIL) == (
        '{"event_type":"UPDATE","mdt":"elm-MDT0001","fid":"0x200000401:0x3:0x0","action":"RESTORE",'
        '"status":"STARTED","timestamp":1759401125,"first_seen":1759393500,"cookie":"0x6b02",'
        '"host":"m\\u007fds\\u202e1","stream":"hsm:actions:elm-MDT0001","id":"1759453925123-0",'
        '"path":"/lustre/\\u001b[2J\\u009b31m\\u202egpj\\u007f.dat\\nnext"}'
    )
    assert "path" not in json.loads(json_lines()(shown, facts(shown), None))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{mdt} {action} {status} {path} {fid} {id} {time} {age}",
         r"elm-MDT0001 RESTORE STARTED /lustre/\x1b[2J\x9b31m\u202egpj\x7f.dat\x0anext 0x200000401:0x3:0x0"
         " 1759453925123-0 2025-10-02 10:32:05 2h07m"),
        ("{status:<9}|{status:>9}|{status:^9}|{status:9}|", "STARTED  |  STARTED| STARTED |STARTED  |"),
        ("{age_s} {timestamp} {event} {stream} {host} {cookie} {archive_id}",
         "7625 1759401125 UPDATE hsm:actions:elm-MDT0001 mds1 0x6b02 2"),
        ("{last_status}", "?"),
        ("{{{mdt}}}", "{elm-MDT0001}"),
        ("plain", "plain"),
        ("", ""),
    ],
)  # fmt: skip
def test_golden_templates(template: str, expected: str) -> None:
    shown = event(raw=RAW)
    assert parse_template(template)(shown, facts(shown), EVIL) == expected


def test_a_file_without_a_path_is_its_fid_in_a_template() -> None:
    assert parse_template("{path}")(event(), facts(event()), None) == "[0x200000401:0x3:0x0]"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{nope}", "no field {nope}; there are time, timestamp, mdt"),
        ("{}", "no field {}"),
        ("{0}", "no field {0}"),
        ("{mdt.__class__}", "no field {mdt.__class__}"),
        ("{mdt[0]}", "no field {mdt[0]}"),
        ("{mdt!r}", "no field {mdt}"),
        ("{mdt:>9999}", "'>9999' is no width"),
        ("{mdt:x}", "'x' is no width"),
        ("{mdt:{fid}}", "'{fid}' is no width"),
        ("{mdt", "expected '}'"),
        ("}", "Single '}'"),
    ],
)
def test_a_template_names_fields_and_nothing_else(template: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_template(template)
    assert complaint in str(refused.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
KEYS = [
    "mdt",
    "fid",
    "action",
    "status",
    "timestamp",
    "first_seen",
    "event_type",
    "refresh",
    "host",
    "raw",
    "path",
    "id",
]


@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING), st.none() | st.text())
def test_no_event_and_no_name_reaches_a_terminal_raw(data: dict[str, Any], path: str | None) -> None:
    shown = StreamEvent("hsm:actions:elm-MDT0001", "1759453925123-0", data)
    about = facts(shown)
    assert parse_template(" ".join(f"{{{name}}}" for name in FIELDS))(shown, about, path).isprintable()
    line = json_lines()(shown, about, path)
    assert line.isprintable() and line.isascii()
    assert json.loads(line)["id"] == shown.id


def test_an_event_nested_too_deep_to_be_written_is_shown_without_that() -> None:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    shown = event(status=nested, host=nested)
    assert "RESTORE  ?        ->" in event_line(shown, facts(shown))
    assert parse_template("{host} {mdt}")(shown, facts(shown), None) == "? elm-MDT0001"
    told = json.loads(json_lines()(shown, facts(shown), None))
    assert told["mdt"] == "elm-MDT0001" and "host" not in told


def selected(view: EventView, *events: StreamEvent) -> list[str]:
    return view.lines((wanted, None) for wanted in view.select(events))


def test_types_filters_and_fids_select_events() -> None:
    def render(_event: StreamEvent, about: Facts, _path: str | None) -> str:
        return about.status

    events = [
        event(), event(status="FAILED"), event(event_type="PURGED", status="PURGED"),
        event(fid=..., action=..., action_key="0x1:0x2:0x0:REMOVE", status="keyed"), event(mdt=..., status="no mdt"),
    ]  # fmt: skip
    assert selected(EventView(render), *events) == ["STARTED", "FAILED", "PURGED", "keyed", "no mdt"]
    assert selected(EventView(render, frozenset({"PURGED", "UPDATE"})), *events) == []
    assert selected(EventView(render, matches=ActionFilter(status=["fail*"])), *events) == ["FAILED"]
    assert selected(EventView(render, matches=ActionFilter(action=["remove"])), *events) == ["keyed"]
    assert selected(EventView(render, matches=ActionFilter(mdt=["elm-MDT0001"])), *events)[-1] == "no mdt"
    assert selected(EventView(render, matches_fid=glob_matcher(["0x1:*"])), *events) == ["keyed"]


def test_a_path_filter_shows_what_matches_and_counts_what_it_cannot_tell() -> None:
    view = EventView(lambda _event, _about, path: str(path), matches_path=glob_matcher(["/lustre/a/*"]))
    [wanted] = view.select([event()])
    paths = ["/lustre/a/x", "/lustre/b", None, "/lustre/a/b/c"]
    assert view.lines((wanted, path) for path in paths) == ["/lustre/a/x", "/lustre/a/b/c"]
    assert view.without_path == 1


@pytest.mark.parametrize(
    ("choice", "environment", "is_on"),
    [
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"TERM": "xterm"}, False),
        ("auto", {"TERM": "xterm"}, True),
        ("auto", {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", {"TERM": "dumb"}, False),
        ("auto", {}, False),
    ],
)
def test_colour_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, choice: str, environment: dict[str, str], is_on: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert colours_for_stdout(choice, environment).is_on is is_on


def test_no_colour_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert not colours_for_stdout("auto", {"TERM": "xterm"}).is_on
