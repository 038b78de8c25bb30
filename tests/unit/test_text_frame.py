"""The dashboard as plain text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hsm_shipper.contract.heartbeat import Heartbeat
from hsm_tools.dashboard.data.counts_table import By, rows
from hsm_tools.dashboard.text_frame import CONNECTED, LISTENING, Connection, frame, table_lines
from hsm_tools.live_state.health import worker_health
from tests.support.dashboards import heartbeat, mdt_state, state

GROUPS = {
    ("elm-MDT0000", "ARCHIVE", "STARTED"): 50_000,
    ("elm-MDT0000", "ARCHIVE", "WAITING"): 25_000,
    ("elm-MDT0001", "RESTORE", "STARTED"): 125,
    ("elm-MDT0002", "ARCHIVE", "STARTED"): 140_000,
    ("elm-MDT0002", "ARCHIVE", "SUCCEED"): 210,
    ("elm-MDT0002", "ARCHIVE", "WAITING"): 85_869,
    ("elm-MDT0003", "REMOVE", "FAILED"): 2,
}
LOST = {"archive_count": 4, "restore_count": 1, "remove_count": 0, "slots_lost_since": 0.0}
BEFORE = GROUPS | {
    ("elm-MDT0001", "RESTORE", "STARTED"): 120,
    ("elm-MDT0002", "ARCHIVE", "SUCCEED"): 225,
    ("elm-MDT0003", "REMOVE", "FAILED"): 0,
}
# Every row but the one with the total of all, which is another one than in the specification's example.
AS_SPECIFIED = """\
--- Lustre HSM Action Dashboard ---
Time: 2025-10-02 10:30:15 | Redis: Connected
Viewer Status: Listening for live updates...
Live Actions: 301,206 | Total Events Processed: 750,112 | Last Event: 0s ago

--- Live Action Count by (MDT, Action, Status) ---
MDT         | ACTION  | STATUS     |      COUNT DIFF
----------------------------------------------------------
elm-MDT0000 | ARCHIVE | STARTED    |     50,000 
elm-MDT0000 | ARCHIVE | WAITING    |     25,000 
elm-MDT0001 | RESTORE | STARTED    |        125 (+5)
elm-MDT0002 | ARCHIVE | STARTED    |    140,000 
elm-MDT0002 | ARCHIVE | SUCCEED    |        210 (-15)
elm-MDT0002 | ARCHIVE | WAITING    |     85,869 
elm-MDT0003 | REMOVE  | FAILED     |          2 (+2)"""  # noqa: W291
NOW_S = 1_759_401_015.0


@pytest.fixture(autouse=True)
def _utc(set_zone: Callable[[str], None]) -> None:
    set_zone("UTC")


def test_the_frame_is_as_specified() -> None:
    mdts = [mdt_state("elm-MDT0000", NOW_S, live=301_206, entries=750_112)]
    text = frame(state(GROUPS, NOW_S, *mdts), state(BEFORE, NOW_S, *mdts), CONNECTED, LISTENING, NOW_S)
    assert text == AS_SPECIFIED


def test_columns_widen_for_longer_names_and_numbers() -> None:
    shown = state({("verylongfs-name-MDT0000", "ARCHIVE", "WAITING"): 12_345_678_901}, NOW_S)
    assert table_lines(rows(shown, None), By.ALL) == [
        "MDT                     | ACTION  | STATUS     |          COUNT DIFF",
        "-" * 74,
        "verylongfs-name-MDT0000 | ARCHIVE | WAITING    | 12,345,678,901 ",
    ]


def test_a_group_that_has_come_to_nothing_is_shown_once_with_what_it_lost() -> None:
    before = state({("elm-MDT0000", "ARCHIVE", "WAITING"): 3}, NOW_S)
    after = state({}, NOW_S, *before.mdts)
    assert table_lines(rows(after, before), By.ALL)[2:] == ["elm-MDT0000 | ARCHIVE | WAITING    |          0 (-3)"]
    assert table_lines(rows(after, after), By.ALL)[2:] == []


def test_a_hostile_status_neither_reaches_the_terminal_raw_nor_breaks_the_table() -> None:
    shown = state({("elm-MDT0000", "ARCHIVE", "\x1b[2J\n" + "x" * 10_000): 1}, NOW_S)
    [row] = table_lines(rows(shown, None), By.ALL)[2:]
    assert row.startswith("elm-MDT0000 | ARCHIVE | \\x1b[2J\\x0axxx")
    assert len(row) < 100
    assert row.isprintable()


@pytest.mark.parametrize(
    ("beat", "said"),
    [
        (heartbeat("elm-MDT0000", last_poll_at=NOW_S - 95), "ALERT elm-MDT0000: shipper stale, last poll 1m 35s ago"),
        (None, "ALERT elm-MDT0000: no heartbeat: no shipper, or it hangs or cannot reach Redis"),
        (
            heartbeat("elm-MDT0000", last_poll_at=NOW_S, hsm_control="disabled"),
            "WARN  elm-MDT0000: coordinator is disabled",
        ),
        (
            heartbeat("elm-MDT0000", last_poll_at=NOW_S, last_error="\x1b[31mI/O error"),
            "ALERT elm-MDT0000: last poll failed: \\x1b[31mI/O error",
        ),
        (
            heartbeat("elm-MDT0000", last_poll_at=NOW_S, lines_not_understood=3),
            "WARN  elm-MDT0000: 3 of 10 lines of the actions file are not understood, and not shipped: "
            "`hsm-action-shipper check` shows the first",
        ),
        (
            heartbeat("elm-MDT0000", last_poll_at=NOW_S, **LOST),
            "WARN  elm-MDT0000: no slot is left (max_requests 4), and no copytool works on 2 of the 5 active requests: "
            "set hsm_control to shutdown, then to enabled, and restart the copytools",
        ),
    ],
)
def test_what_is_wrong_is_said_below_the_table(beat: Heartbeat | None, said: str) -> None:
    mdt = mdt_state("elm-MDT0000", NOW_S)._replace(heartbeat=beat, health=worker_health(beat, NOW_S))
    text = frame(state({}, NOW_S, mdt), None, CONNECTED, LISTENING, NOW_S)
    assert text.splitlines()[-3:] == ["No live actions: 1 stream.", "", said]


def test_malformed_entries_and_trouble_are_said() -> None:
    mdt = mdt_state("elm-MDT0000", NOW_S, malformed=1, trouble="hsm:actions:elm-MDT0000 cannot be read: no permission")
    lines = frame(state({}, NOW_S, mdt), None, CONNECTED, LISTENING, NOW_S).splitlines()
    assert lines[-2:] == [
        "ALERT elm-MDT0000: hsm:actions:elm-MDT0000 cannot be read: no permission",
        "WARN  elm-MDT0000: 1 malformed entry passed over",
    ]


def test_what_many_have_in_common_is_said_once() -> None:
    mdts = [
        mdt_state(f"elm-MDT{n:04x}", NOW_S)._replace(heartbeat=None, health=worker_health(None, NOW_S))
        for n in range(40)
    ]
    lines = frame(state({}, NOW_S, *mdts), None, CONNECTED, LISTENING, NOW_S).splitlines()
    assert lines[-1].startswith("ALERT 40 MDTs (elm-MDT0000, elm-MDT0001, ...): no heartbeat")
    assert lines[-2] == ""


def test_without_redis_the_last_state_is_shown_and_said_to_be_it() -> None:
    lost = Connection(NOW_S - 75, "no answer from Redis at redis://r:6379/1: \x1b[0mrefused")
    lines = frame(state(GROUPS, NOW_S), None, lost, "away", NOW_S).splitlines()
    assert lines[1] == "Time: 2025-10-02 10:30:15 | Redis: Disconnected since 10:29:00"
    assert "elm-MDT0003 | REMOVE  | FAILED     |          2 " in lines
    assert lines[-1] == "ALERT no answer from Redis at redis://r:6379/1: \\x1b[0mrefused"


def test_with_a_filter_both_counts_are_told() -> None:
    shown = state({("elm-MDT0000", "ARCHIVE", "WAITING"): 5}, NOW_S, mdt_state("elm-MDT0000", NOW_S, live=1_000))
    assert "Live Actions: 5 of 1,000 |" in frame(shown, None, CONNECTED, LISTENING, NOW_S)


def test_no_event_at_all_is_never() -> None:
    shown = state({}, NOW_S, mdt_state("elm-MDT0000", NOW_S, last_event_at=None))
    assert "Last Event: never" in frame(shown, None, CONNECTED, LISTENING, NOW_S)
