"""Migrations of `maintenance.sqlite3`, which is maintenance's own: a set apart from the state files'."""

from sqlite_utils import Database, Migrations

SET = "hsm_shipper.maintenance.main"

# Times are seconds since the epoch. Counts are NULL where the run failed, `error` where it did not.
_RUNS = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    mdt TEXT NOT NULL,
    host TEXT NOT NULL,
    started_at REAL NOT NULL,
    duration_s REAL NOT NULL,
    entries INTEGER,
    live INTEGER,
    orphans INTEGER,
    missing INTEGER,
    differing INTEGER,
    malformed INTEGER,
    trimmed INTEGER,
    refreshed INTEGER,
    length INTEGER,
    error TEXT
)
"""
_RUNS_BY_MDT = "CREATE INDEX runs_by_mdt ON runs (mdt, id)"

_LAST_RUNS = """
CREATE VIEW last_runs AS
SELECT mdt, datetime(started_at, 'unixepoch') || 'Z' AS started, round(duration_s, 2) AS duration_s,
       entries, live, orphans + missing + differing AS healed, malformed, trimmed, refreshed, length, error
FROM runs WHERE id IN (SELECT max(id) FROM runs GROUP BY mdt) ORDER BY mdt
"""


def _runs(db: Database) -> None:
    for statement in (_RUNS, _RUNS_BY_MDT, _LAST_RUNS):
        db.execute(statement)


STEPS = {"0001_runs": _runs}

migrations = Migrations(SET)
for _name, _step in STEPS.items():
    migrations(name=_name)(_step)
