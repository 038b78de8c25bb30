"""What a poll saw while Redis was away: the events, in order, until Redis takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

# `event` is what an entry's field 'data' will be, `hash` the MD5 of the line whose state it tells (NULL: it ends the
# action), `before_hash` that of the line before it (NULL: there was none, or the stream does not tell it).
_OUTBOX = """
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    cat_idx INTEGER NOT NULL,
    rec_idx INTEGER NOT NULL,
    before_hash TEXT,
    hash TEXT,
    event TEXT NOT NULL
)
"""
_OUTBOX_BY_PLACE = "CREATE INDEX outbox_by_place ON outbox (cat_idx, rec_idx)"

_SHIPPER_STATUS = """
CREATE VIEW shipper_status AS
SELECT mdt, host, pid, polls,
       datetime(last_poll_at, 'unixepoch') || 'Z' AS last_poll,
       round(last_poll_duration_s, 3) AS duration_s,
       round(last_poll_read_s, 3) AS read_s,
       lines, live, backlog,
       datetime(backlog_since, 'unixepoch') || 'Z' AS backlog_since,
       events_new, events_update, events_purged,
       states_missed, lines_not_understood,
       (SELECT last_stream_id FROM stream_position) AS last_stream_id,
       last_error,
       datetime(last_error_at, 'unixepoch') || 'Z' AS last_error_at
FROM poll_status
"""


def migrate(db: Database) -> None:
    """Make the table, empty; what is in it is told beside the position, and its age with the last poll."""
    db.execute(_OUTBOX)
    db.execute(_OUTBOX_BY_PLACE)
    for column in ("outbox_events", "outbox_bytes", "outbox_sum"):
        db.execute(f"ALTER TABLE stream_position ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE poll_status ADD COLUMN backlog_since REAL")
    db.execute("DROP VIEW IF EXISTS shipper_status")
    db.execute(_SHIPPER_STATUS)
