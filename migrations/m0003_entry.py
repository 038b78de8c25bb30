"""Which entry of the stream holds an action's state: maintenance compares by it, without a look at the line."""

from sqlite_utils import Database


def migrate(db: Database) -> None:
    """Add the column; NULL where it is not known (rows of earlier releases), until maintenance fills it."""
    db.execute("ALTER TABLE actions ADD COLUMN entry_id TEXT")
