"""The first schema: what the stream says is live, how far it was read, and how the last poll went.

Kept to what SQLite 3.26 understands (no STRICT, no unixepoch()): metadata servers run Enterprise Linux 8 and 9, whose
Python and `sqlite3` shell use SQLite 3.26 and 3.34.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

# `hash` is NULL where the stream does not tell it (an earlier shipper's entry without `raw`).
_ACTIONS = """
CREATE TABLE actions (
    cat_idx INTEGER NOT NULL,
    rec_idx INTEGER NOT NULL,
    fid TEXT NOT NULL,
    action TEXT NOT NULL,
    status TEXT NOT NULL,
    cookie TEXT,
    hash TEXT,
    first_seen INTEGER,
    status_since INTEGER,
    PRIMARY KEY (cat_idx, rec_idx)
) WITHOUT ROWID
"""

# Places that the last complete reading missed without being believed: the next one decides.
_MISSED = """
CREATE TABLE missed (
    cat_idx INTEGER NOT NULL,
    rec_idx INTEGER NOT NULL,
    PRIMARY KEY (cat_idx, rec_idx)
) WITHOUT ROWID
"""

# One row. `actions` is exactly the fold of the stream up to last_stream_id. The newest entry is the one that was
# last in the stream then (not always last_stream_id: that one may be deleted); NULL where the stream was empty.
_STREAM_POSITION = """
CREATE TABLE stream_position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_stream_id TEXT NOT NULL,
    newest_entry_id TEXT,
    newest_entry_sha1 TEXT
)
"""

# One row. Times are seconds since the epoch; counters run since the file was made.
_POLL_STATUS = """
CREATE TABLE poll_status (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    mdt TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    polls INTEGER NOT NULL,
    last_poll_at REAL NOT NULL,
    last_poll_duration_s REAL NOT NULL,
    lines INTEGER NOT NULL,
    live INTEGER NOT NULL,
    backlog INTEGER NOT NULL,
    events_new INTEGER NOT NULL,
    events_update INTEGER NOT NULL,
    events_purged INTEGER NOT NULL,
    states_missed INTEGER NOT NULL,
    lines_not_understood INTEGER NOT NULL,
    last_error TEXT,
    last_error_at REAL
)
"""

_LIVE_BY_STATUS = """
CREATE VIEW live_by_status AS
SELECT action, status, count(*) AS actions,
       datetime(min(first_seen), 'unixepoch') || 'Z' AS oldest_first_seen,
       datetime(max(status_since), 'unixepoch') || 'Z' AS latest_status_since
FROM actions GROUP BY action, status ORDER BY action, status
"""

_OLDEST_ACTIONS = """
CREATE VIEW oldest_actions AS
SELECT fid, action, status,
       datetime(first_seen, 'unixepoch') || 'Z' AS first_seen,
       datetime(status_since, 'unixepoch') || 'Z' AS status_since,
       CAST(strftime('%s', 'now') AS INTEGER) - first_seen AS age_s,
       cat_idx || '/' || rec_idx AS idx, cookie
FROM actions ORDER BY actions.first_seen
"""

_SHIPPER_STATUS = """
CREATE VIEW shipper_status AS
SELECT mdt, host, pid, polls,
       datetime(last_poll_at, 'unixepoch') || 'Z' AS last_poll,
       round(last_poll_duration_s, 3) AS duration_s,
       lines, live, backlog, events_new, events_update, events_purged,
       states_missed, lines_not_understood,
       (SELECT last_stream_id FROM stream_position) AS last_stream_id,
       last_error,
       datetime(last_error_at, 'unixepoch') || 'Z' AS last_error_at
FROM poll_status
"""


def migrate(db: Database) -> None:
    """Make the tables and the views for people."""
    for statement in (
        _ACTIONS,
        _MISSED,
        _STREAM_POSITION,
        _POLL_STATUS,
        _LIVE_BY_STATUS,
        _OLDEST_ACTIONS,
        _SHIPPER_STATUS,
    ):
        db.execute(statement)
