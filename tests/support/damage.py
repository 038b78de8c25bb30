"""Values that no worker writes, put into the cells of a real state file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

_NO_UTF8 = "CAST(x'30ff' AS TEXT)"
_NO_NUMBER = ["'x'", "x'31'", "0.5", "9e999", _NO_UTF8]
_NO_INDEX = [*_NO_NUMBER, "-1", "4294967296", "9223372036854775807"]
_NO_TEXT = ["x'41'", "''", _NO_UTF8]
_NO_SECONDS = [*_NO_NUMBER, "9007199254740993", "-9007199254740993"]
_NO_ID = [*_NO_TEXT, "'x'", "'5'", "'5-'", "'-5'", "'5-0-0'", "' 5-0'", "'05-0'", "'99999999999999999999-0'"]
_NO_COUNT = [*_NO_NUMBER, "-1", "1e300"]
_NO_TIME = ["'x'", "x'31'", "9e999", "-1.0", "1e300", _NO_UTF8]
_NO_HASH = [
    *_NO_TEXT,
    "'zz'",
    "substr(hash, 1, 31) || 'g'",
    "substr(hash, 2)",
    "hash || 'ab'",
    "' ' || substr(hash, 2)",
]
_MARKS = ("missed", "refresh")
_COUNTS = (
    "pid", "polls", "lines", "live", "backlog", "events_new", "events_update", "events_purged", "states_missed",
    "lines_not_understood",
)  # fmt: skip

IMPOSSIBLE: dict[tuple[str, str], list[str]] = {
    ("actions", "cat_idx"): _NO_INDEX,
    ("actions", "rec_idx"): _NO_INDEX,
    ("actions", "fid"): _NO_TEXT,
    ("actions", "action"): _NO_TEXT,
    ("actions", "status"): _NO_TEXT,
    ("actions", "cookie"): _NO_TEXT,
    ("actions", "hash"): _NO_HASH,
    ("actions", "first_seen"): _NO_SECONDS,
    ("actions", "status_since"): _NO_SECONDS,
    ("actions", "entry_id"): _NO_ID,
    ("missed", "cat_idx"): _NO_INDEX,
    ("missed", "rec_idx"): _NO_INDEX,
    ("refresh", "cat_idx"): _NO_INDEX,
    ("refresh", "rec_idx"): _NO_INDEX,
    ("stream_position", "last_stream_id"): _NO_ID,
    ("stream_position", "newest_entry_id"): [*_NO_ID, "NULL"],
    ("stream_position", "newest_entry_sha1"): [*_NO_TEXT, "NULL", "'ab'", "substr(newest_entry_sha1, 1, 39) || 'g'"],
    ("stream_position", "first_entry_id"): _NO_ID,
    ("stream_position", "entries"): _NO_COUNT,
    ("stream_position", "max_deleted_entry_id"): _NO_ID,
    ("stream_position", "live_actions"): [*_NO_COUNT, "live_actions + 1"],
    ("stream_position", "live_actions_sum"): [*_NO_COUNT, "live_actions_sum + 1"],
    ("stream_position", "outbox_events"): [*_NO_COUNT, "outbox_events + 1"],
    ("stream_position", "outbox_bytes"): [*_NO_COUNT, "outbox_bytes + 1"],
    ("stream_position", "outbox_sum"): [*_NO_COUNT, "outbox_sum + 1"],
    ("poll_status", "mdt"): ["x'41'", _NO_UTF8],
    ("poll_status", "host"): ["x'41'", _NO_UTF8],
    ("poll_status", "last_error"): ["x'41'", _NO_UTF8],
    **{("poll_status", column): [*_NO_COUNT, "9223372036854775807"] for column in _COUNTS},
    **{
        ("poll_status", column): _NO_TIME
        for column in ("last_poll_at", "last_poll_duration_s", "last_poll_read_s", "backlog_since", "last_error_at")
    },
}
"""By table and column, as SQL."""

IMPOSSIBLE_WAITING: dict[tuple[str, str], list[str]] = {
    ("outbox", "seen_at"): [*_NO_SECONDS, "seen_at + 1"],
    ("outbox", "kind"): [*_NO_TEXT, "lower(kind)"],
    ("outbox", "cat_idx"): [*_NO_INDEX, "cat_idx + 1"],
    ("outbox", "rec_idx"): [*_NO_INDEX, "rec_idx + 1"],
    ("outbox", "before_hash"): [*_NO_HASH[:4], "'00000000000000000000000000000000'"],
    ("outbox", "hash"): [*_NO_HASH[:4], "'00000000000000000000000000000000'"],
    ("outbox", "event"): [*_NO_TEXT, "'{}'", "replace(event, '1', '2')"],
}
"""The same of what has rows only while something waits for Redis."""


class Damage(NamedTuple):
    """What is wrong in a state file."""

    table: str
    column: str
    value: str
    """As SQL."""
    row: int = 0
    """Which row, counted around."""

    def is_possible(self, path: Path) -> bool:
        """Whether there is a state file with something in it to damage."""
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                (rows,) = connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()
        except sqlite3.Error:
            return False
        return bool(rows) or self.table in _MARKS

    def do(self, path: Path) -> None:
        """Damage the file, under a running worker or not; of places a table without any gets one, and it is that."""
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            (rows,) = connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()
            if not rows and self.table in _MARKS:
                connection.execute(f"INSERT INTO {self.table} VALUES (1, 2)")
            key = "id" if self.table in ("stream_position", "poll_status", "outbox") else "cat_idx, rec_idx"
            connection.execute(
                f"UPDATE {self.table} SET {self.column} = {self.value} WHERE ({key}) IN "
                f"(SELECT {key} FROM {self.table} LIMIT 1 OFFSET {self.row % max(rows, 1)})"
            )
            assert connection.total_changes


def _damages(impossible: dict[tuple[str, str], list[str]]) -> list[Damage]:
    return [Damage(table, column, value) for (table, column), found in impossible.items() for value in found]


DAMAGES = _damages(IMPOSSIBLE)
DAMAGES_WAITING = _damages(IMPOSSIBLE_WAITING)
