"""How much of the last poll the kernel took to give the list: so a slow server is told from a slow Redis or disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

_SHIPPER_STATUS = """
CREATE VIEW shipper_status AS
SELECT mdt, host, pid, polls,
       datetime(last_poll_at, 'unixepoch') || 'Z' AS last_poll,
       round(last_poll_duration_s, 3) AS duration_s,
       round(last_poll_read_s, 3) AS read_s,
       lines, live, backlog, events_new, events_update, events_purged,
       states_missed, lines_not_understood,
       (SELECT last_stream_id FROM stream_position) AS last_stream_id,
       last_error,
       datetime(last_error_at, 'unixepoch') || 'Z' AS last_error_at
FROM poll_status
"""


def migrate(db: Database) -> None:
    """Add the column, NULL for not known yet, and show it in the view for people."""
    db.execute("ALTER TABLE poll_status ADD COLUMN last_poll_read_s REAL")
    db.execute("DROP VIEW IF EXISTS shipper_status")
    db.execute(_SHIPPER_STATUS)
