"""What is live by archive, in every form of the report of `hsm-stream-stats`."""

from __future__ import annotations

import pytest

from tests.support.core import MDT, line
from tests.support.stats_runs import MDT1, Site, samples
from tests.support.waiting import DEADLINE_S


@pytest.fixture
def archives(site: Site) -> Site:
    """Two archives, and an action of a shipper that leaves `raw` out."""
    for rec, archive in enumerate((2, 2, 1, 2), 1):
        site.add(rec, "STARTED" if rec == 4 else "WAITING", raw=line(rec, archive_id=archive).decode(), ago=rec * 1000)
    site.add(5, raw=None)
    site.add(6, mdt=MDT1, raw=line(6, archive_id=1).decode())
    return site


def test_the_report_counts_them_with_their_oldest_actions(archives: Site) -> None:
    rows = archives.report()["archives"]
    assert [list(row)[:5] for row in rows] == [["mdt", "action", "status", "archive_id", "count"]] * 5
    assert [tuple(row.values())[:5] for row in rows] == [
        (MDT, "ARCHIVE", "STARTED", 2, 1),
        (MDT, "ARCHIVE", "WAITING", 1, 1),
        (MDT, "ARCHIVE", "WAITING", 2, 2),
        (MDT, "ARCHIVE", "WAITING", None, 1),
        (MDT1, "ARCHIVE", "WAITING", 1, 1),
    ]
    assert 2000 <= rows[2]["age_seconds"] == rows[2]["status_age_seconds"] < 2000 + DEADLINE_S


def test_filters_choose_among_them(archives: Site) -> None:
    rows = archives.report("--status", "started", "--mdt", MDT)["archives"]
    assert [(row["archive_id"], row["count"]) for row in rows] == [(2, 1)]


def test_the_table_shows_them_where_there_are_several(archives: Site) -> None:
    text = archives.output("--format", "table")
    table = [line.split() for line in text[text.index("ARCHIVE  ACTION") :].split("\n\n")[0].splitlines()]
    assert table == [
        ["ARCHIVE", "ACTION", "WAITING", "STARTED", "SUCCEED", "FAILED", "CANCELED"],
        ["1", "ARCHIVE", "2", "-", "-", "-", "-"],
        ["2", "ARCHIVE", "2", "1", "-", "-", "-"],
        ["?", "ARCHIVE", "1", "-", "-", "-", "-"],
        ["all", "5", "1", "-", "-", "-"],
    ]


def test_one_archive_needs_no_table(site: Site) -> None:
    site.add(1)
    assert "ARCHIVE  ACTION" not in site.output("--format", "table")


def test_metrics_and_lines_name_them(archives: Site) -> None:
    counts = samples(archives.output("--format", "prometheus"), "hsm_archive_live_actions")
    assert counts[f'action="ARCHIVE",archive="2",mdt="{MDT}",status="WAITING"'] == 2
    assert counts[f'action="ARCHIVE",archive="unknown",mdt="{MDT}",status="WAITING"'] == 1
    lines = archives.output("--format", "influx")
    assert f"hsm_archive_actions,mdt={MDT},archive=2,action=ARCHIVE,status=STARTED,redis=" in lines


def test_many_archives_make_few_series(site: Site) -> None:
    for rec in range(300):
        site.add(rec, raw=line(rec, archive_id=rec).decode())
    metrics = site.output("--format", "prometheus")
    counts = [float(row.split()[-1]) for row in metrics.splitlines() if row.startswith("hsm_archive_live_actions{")]
    assert (len(counts), sum(counts)) == (65, 300)
    lines = site.output("--format", "influx").splitlines()
    assert sum(line.startswith("hsm_archive_actions,") for line in lines) == 65
