"""Migrations of the state files, in order; sqlite-utils records each in the table `_sqlite_migrations`.

A migration that has shipped is never edited: a change of the schema is a new one, added at the end.
"""

from sqlite_utils import Migrations

from hsm_shipper.migrations import (
    m0001_state,
    m0002_refresh,
    m0003_entry,
    m0004_extent,
    m0005_read_seconds,
    m0006_content_sum,
)

SET = "hsm_shipper"
STEPS = {
    "0001_state": m0001_state.migrate,
    "0002_refresh": m0002_refresh.migrate,
    "0003_entry": m0003_entry.migrate,
    "0004_extent": m0004_extent.migrate,
    "0005_read_seconds": m0005_read_seconds.migrate,
    "0006_content_sum": m0006_content_sum.migrate,
}

migrations = Migrations(SET)
for _name, _step in STEPS.items():
    migrations(name=_name)(_step)
