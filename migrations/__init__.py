"""Migrations of the state files, in order; sqlite-utils records each in the table `_sqlite_migrations`.

A migration that has shipped is never edited: a change of the schema is a new one, added at the end.
"""

from __future__ import annotations

import sqlite3

from hsm_shipper.migrations import (
    m0001_state,
    m0002_refresh,
    m0003_entry,
    m0004_extent,
    m0005_read_seconds,
    m0006_content_sum,
    m0007_outbox,
)

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


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are left."""
    from sqlite_utils import Database, Migrations  # late: several MB that a worker without such steps need not hold

    migrations = Migrations(SET)
    for name, step in STEPS.items():
        migrations(name=name)(step)
    migrations.apply(Database(connection))
