"""Migrations of the state files, in order; sqlite-utils records each in the table `_sqlite_migrations`.

A migration that has shipped is never edited: a change of the schema is a new one, added at the end.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from hsm_shipper.migrations import (
    m0001_state,
    m0002_refresh,
    m0003_entry,
    m0004_extent,
    m0005_read_seconds,
    m0006_content_sum,
    m0007_outbox,
)

if TYPE_CHECKING:
    from sqlite_utils import Database

SET = "hsm_shipper"
STEPS = {
    "0001_state": m0001_state.migrate,
    "0002_refresh": m0002_refresh.migrate,
    "0003_entry": m0003_entry.migrate,
    "0004_extent": m0004_extent.migrate,
    "0005_read_seconds": m0005_read_seconds.migrate,
    "0006_content_sum": m0006_content_sum.migrate,
    "0007_outbox": m0007_outbox.migrate,
}


# As sqlite-utils makes them.
_RECORDS = (
    """\
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
)""",
    """\
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name")""",
)


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are left."""
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
        _make(connection)
        return
    from sqlite_utils import Database, Migrations  # late: several MB that a worker without such steps need not hold

    migrations = Migrations(SET)
    for name, step in STEPS.items():
        migrations(name=name)(step)
    migrations.apply(Database(connection))


def _make(connection: sqlite3.Connection) -> None:
    """Take all steps as sqlite-utils would, but in one transaction: an MDT's first event waits for this."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql in _RECORDS:
            connection.execute(sql)
        for name, step in STEPS.items():
            step(cast("Database", connection))  # of which a step uses execute() alone
            record = (SET, name, str(datetime.now(UTC)))
            connection.execute(
                "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)", record
            )
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
