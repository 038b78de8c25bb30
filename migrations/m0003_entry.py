"""Which entry of the stream holds an action's state: maintenance compares by it, without a look at the line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def migrate(db: Database) -> None:
    """Add the column, and forget the position: the worker reads its stream once more and so fills it."""
    db.execute("ALTER TABLE actions ADD COLUMN entry_id TEXT")
    db.execute("DELETE FROM stream_position")
