"""How many live actions the file holds, and a sum over them: a file whose pages are of two times is noticed by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database


def migrate(db: Database) -> None:
    """Add the columns, NULL for not known yet: the first change that is shipped fills them."""
    for column in ("live_actions INTEGER", "live_actions_sum INTEGER"):
        db.execute(f"ALTER TABLE stream_position ADD COLUMN {column}")
