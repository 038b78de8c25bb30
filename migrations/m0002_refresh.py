"""Which actions the next poll appends again, so that the entries behind their old ones can be trimmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

_REFRESH = """
CREATE TABLE refresh (
    cat_idx INTEGER NOT NULL,
    rec_idx INTEGER NOT NULL,
    PRIMARY KEY (cat_idx, rec_idx)
) WITHOUT ROWID
"""


def migrate(db: Database) -> None:
    """Make the table; maintenance fills it, the worker empties it."""
    db.execute(_REFRESH)
