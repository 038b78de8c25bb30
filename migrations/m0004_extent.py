"""What the stream held when we left it: by that the worker notices entries that others trim or delete inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def migrate(db: Database) -> None:
    """Add the columns, all NULL for not known yet: the first poll fills them."""
    for column in ("first_entry_id TEXT", "entries INTEGER", "max_deleted_entry_id TEXT"):
        db.execute(f"ALTER TABLE stream_position ADD COLUMN {column}")
