"""`hsm-stream-stats` as an installed command: what it reports, where it writes it, and how it fails."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hsm_shipper.contract.redis_keys import heartbeat_key, stream_key
from hsm_tools import stats
from hsm_tools.command import progress_bar as progress
from tests.conftest import PrivateServer
from tests.support.core import KEY, MDT
from tests.support.servers import free_port
from tests.support.stats_runs import COMMAND, ENVIRONMENT, MDT1, PREFIX, Site, samples
from tests.support.waiting import DEADLINE_S


def test_the_report_has_the_keys_of_the_spec_in_its_order(filled: Site) -> None:
    report = filled.report()
    assert list(report)[:2] == ["summary", "breakdown"]
    summary = report["summary"]
    assert list(summary)[:5] == [
        "total_live_actions",
        "oldest_live_action_age_seconds",
        "total_events_replayed",
        "total_stream_entries",
        "streams",
    ]
    assert summary["total_live_actions"] == 4
    assert 4500 <= summary["oldest_live_action_age_seconds"] < 4500 + DEADLINE_S
    assert isinstance(summary["oldest_live_action_age_seconds"], int)
    assert (summary["total_events_replayed"], summary["total_stream_entries"]) == (9, 9)
    assert {name: next(iter(stream.items())) for name, stream in summary["streams"].items()} == {
        KEY: ("length", 8),
        stream_key(PREFIX, MDT1): ("length", 1),
    }
    assert [list(row.items()) for row in report["breakdown"]] == [
        [("mdt", MDT), ("action", "ARCHIVE"), ("status", "STARTED"), ("count", 1)],
        [("mdt", MDT), ("action", "ARCHIVE"), ("status", "SUCCEED"), ("count", 1)],
        [("mdt", MDT), ("action", "RESTORE"), ("status", "FAILED"), ("count", 1)],
        [("mdt", MDT1), ("action", "REMOVE"), ("status", "WAITING"), ("count", 1)],
    ]


def test_entries_are_what_there_is_and_replayed_what_was_folded(site: Site) -> None:
    site.add(1)
    site.client.xtrim(KEY, maxlen=0, approximate=False)
    site.add(2)
    summary = site.report()["summary"]
    assert (summary["total_live_actions"], summary["total_events_replayed"], summary["total_stream_entries"]) == (
        1,
    ) * 3


def test_the_report_tells_of_each_stream_and_its_worker(filled: Site) -> None:
    streams = filled.report()["summary"]["streams"]
    one, other = streams[KEY], streams[stream_key(PREFIX, MDT1)]
    assert (one["mdt"], one["live_actions"], one["events_replayed"], one["malformed_entries"]) == (MDT, 3, 8, 1)
    assert (one["trouble"], one["worker"], one["worker_troubles"]) == (None, "fresh", [])
    assert 5 <= one["heartbeat"]["last_poll_age_seconds"] < DEADLINE_S
    assert 65 <= one["heartbeat"]["backlog_age_seconds"] < 60 + DEADLINE_S
    assert (one["heartbeat"]["host"], one["heartbeat"]["backlog"], one["heartbeat"]["max_requests"]) == ("mds1", 1, 100)
    assert one["heartbeat"]["copytools"] == [
        {"uuid": "80379a60", "archive_ids": [1], "current": 3, "ok": 120, "errors": 2}
    ]
    assert (other["worker"], other["worker_troubles"], other["heartbeat"]) == ("missing", ["no heartbeat"], None)


def test_the_report_tells_times_ages_and_failures(filled: Site) -> None:
    report = filled.report()
    times = {(row["action"], row["status"]): row for row in report["times"]}
    assert list(times) == [("ARCHIVE", "STARTED"), ("ARCHIVE", "SUCCEED"), ("RESTORE", "FAILED")]
    started = times["ARCHIVE", "STARTED"]
    assert (started["count"], started["mean_seconds"]) == (2, 30.0)
    assert (started["p50_seconds"], started["p90_seconds"], started["max_seconds"]) == (20, 40, 40)
    assert report["failures"] == [{"mdt": MDT, "action": "RESTORE", "count": 1}]
    oldest = report["oldest"][0]
    assert (oldest["mdt"], oldest["action"], oldest["status"]) == (MDT, "ARCHIVE", "STARTED")
    assert (
        100 <= oldest["age_seconds"] < 100 + DEADLINE_S and oldest["age_seconds"] - oldest["status_age_seconds"] == 40
    )


def test_the_rates_are_of_the_last_minutes_by_the_entries_ids(site: Site) -> None:
    now_ms = int(time.time() * 1000)
    for n, ago_s in enumerate((7200, 2000, 200, *[10] * 21)):  # the last ten seconds do not count yet
        site.client.xadd(
            KEY, {"data": b'{"event_type":"PURGED","action_key":"f:ARCHIVE"}'}, id=f"{now_ms - ago_s * 1000}-{n}"
        )
    assert site.report()["summary"]["events_per_second"] == {"1m": 0.35, "5m": 0.073, "60m": 0.006}


def test_without_a_stream_the_report_is_empty(site: Site) -> None:
    report = site.report()
    assert list(report["summary"].values())[:5] == [0, None, 0, 0, {}]
    assert report["breakdown"] == []
    for form in ("json-list", "table", "prometheus", "influx"):
        assert site.output("--format", form)


def test_filters_choose_live_actions_and_leave_the_totals_of_streams(filled: Site) -> None:
    everything, report = filled.report(), filled.report("--action", "archive", "--status", "started,waiting")
    assert report["summary"]["total_live_actions"] == 1
    assert 100 <= report["summary"]["oldest_live_action_age_seconds"] < 100 + DEADLINE_S
    assert [(row["mdt"], row["action"], row["status"]) for row in report["breakdown"]] == [(MDT, "ARCHIVE", "STARTED")]
    for key in ("total_events_replayed", "total_stream_entries"):
        assert report["summary"][key] == everything["summary"][key]
    assert report["summary"]["streams"].keys() == everything["summary"]["streams"].keys()
    assert report["times"] == everything["times"]
    nothing = filled.report("--mdt", "pine-*")
    assert (nothing["summary"]["total_live_actions"], nothing["breakdown"]) == (0, [])
    assert nothing["summary"]["oldest_live_action_age_seconds"] is None


# Files


def test_a_file_is_written_whole_and_for_all_to_read(filled: Site, tmp_path: Path) -> None:
    file = tmp_path / "hsm.prom"
    file.write_text("before")
    file.chmod(0o600)
    old_umask = os.umask(0o077)
    try:
        done = filled.run("--format", "prometheus", "-o", str(file))
    finally:
        os.umask(old_umask)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert file.read_text().startswith("# HELP hsm_") and file.read_text().endswith("\n")
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_a_reader_never_finds_half_a_file(site: Site, tmp_path: Path) -> None:
    site.add(1)
    file = tmp_path / "report.json"
    site.run("-o", str(file))
    with file.open() as before:
        site.add(2)
        site.run("-o", str(file))
        assert json.load(before)["summary"]["total_live_actions"] == 1, "the file was written over in its place"
    assert json.loads(file.read_text())["summary"]["total_live_actions"] == 2


def test_what_cannot_be_written_leaves_the_old_file_and_no_draft(filled: Site, tmp_path: Path) -> None:
    done = filled.run("-o", str(tmp_path / "nowhere/report.json"))
    assert done.returncode == 1 and "nowhere/report.json" in done.stderr and len(done.stderr.splitlines()) == 1
    done = filled.run("-o", str(tmp_path))
    assert done.returncode == 2 and "no ordinary file" in done.stderr


def test_a_link_stays_and_what_it_leads_to_is_written(filled: Site, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, file = tmp_path / "hsm.prom", tmp_path / "real/hsm.prom"
    link.symlink_to("real/hsm.prom")
    assert filled.run("--format", "prometheus", "-o", str(link)).returncode == 0
    assert link.is_symlink() and file.read_text().startswith("# HELP hsm_")
    link.unlink()
    link.symlink_to(link.name)
    done = filled.run("-o", str(link))
    assert done.returncode == 1 and "Too many levels of symbolic links" in done.stderr


@pytest.mark.parametrize("end", ["/proc/self/fd/1", "/dev/stdout"])
def test_nothing_in_dev_and_proc_is_replaced(filled: Site, tmp_path: Path, end: str) -> None:
    """As of `-o /dev/stdout >>log`: root's would be a file from then on, for all of this host."""
    link, log = tmp_path / "stdout", tmp_path / "log"
    link.symlink_to(end)
    log.write_text("kept\n")
    with log.open("a") as out:
        done = subprocess.run(
            [COMMAND, *filled.where, "-o", str(link)],
            env=ENVIRONMENT,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    assert done.returncode == 2 and "no ordinary file" in done.stderr
    assert link.is_symlink() and log.read_text() == "kept\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(filled: Site) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, *filled.where], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
        )
    assert done.returncode == 1 and "cannot write to standard output" in done.stderr


# Trouble


def test_a_stream_that_cannot_be_read_is_said_shown_and_told_by_the_exit_code(
    private_server: PrivateServer, tmp_path: Path
) -> None:
    server = private_server()
    site = Site(server, 0, tmp_path)
    site.add(1)
    site.add(1, mdt=MDT1)
    allowed = ["resetkeys", f"%R~{KEY}*", "%R~*heartbeat", "+@read", "+select", "+scan", "+hello", "+client", "+auth"]
    site.client.execute_command("ACL", "SETUSER", "one", "on", ">word", *allowed)  # type: ignore[no-untyped-call]
    site.where = ["--redis-url", f"redis://one:word@{server.host}:{server.port}/0"]
    key = stream_key(PREFIX, MDT1)
    done = site.run()
    report = json.loads(done.stdout)
    assert done.returncode == 1 and f"{key} cannot be read" in done.stderr
    assert "cannot be read" in report["summary"]["streams"][key]["trouble"]
    assert report["summary"]["streams"][KEY]["trouble"] is None and report["summary"]["total_live_actions"] == 1
    assert "cannot be read" in site.run("--format", "table").stdout
    assert samples(site.run("--format", "prometheus").stdout, "hsm_stream_readable")[f'mdt="{MDT1}"'] == 0
    assert re.search(rf'^hsm_stream,mdt={MDT1},.*trouble="', site.run("--format", "influx").stdout, re.MULTILINE)
    site.end()


def test_a_heartbeat_that_may_not_be_read_is_not_missing(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server()
    site = Site(server, 0, tmp_path)
    for mdt in (MDT, MDT1):
        site.add(1, mdt=mdt)
        site.beat(mdt)
    site.client.set(heartbeat_key(PREFIX, MDT1), "another program's")
    allowed = ["resetkeys", f"%R~{PREFIX}:*", f"%R~{heartbeat_key(PREFIX, MDT1)}", "+@read"]
    site.client.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "one", "on", ">word", *allowed, "+select", "+scan", "+hello", "+client", "+auth"
    )
    site.where = ["--redis-url", f"redis://one:word@{server.host}:{server.port}/0"]
    refused, other = (site.report()["summary"]["streams"][stream_key(PREFIX, mdt)] for mdt in (MDT, MDT1))
    assert (refused["worker"], other["worker"]) == ("unreadable", "unreadable")
    assert [refused["heartbeat"], other["heartbeat"]] == [None, None]
    assert "permissions" in refused["worker_troubles"][0] and "does not decode" in other["worker_troubles"][0]
    table = site.output("--format", "table")
    assert f"{MDT}: heartbeat cannot be read: " in table and "missing" not in table
    assert table.count(" unreadable ") == 2
    text = site.output("--format", "prometheus")
    assert samples(text, "hsm_worker_up") == {}
    assert set(samples(text, "hsm_worker_heartbeat_readable").values()) == {0.0}
    assert site.output("--format", "influx").count('worker="unreadable"') == 2
    site.client.delete(heartbeat_key(PREFIX, MDT1))
    text = site.output("--format", "prometheus")
    assert samples(text, "hsm_worker_up") == {f'mdt="{MDT1}"': 0.0}
    assert samples(text, "hsm_worker_heartbeat_readable") == {f'mdt="{MDT}"': 0.0, f'mdt="{MDT1}"': 1.0}
    site.end()


def test_two_databases_and_two_prefixes_have_no_series_in_common(private_server: PrivateServer, tmp_path: Path) -> None:
    """Of a series that two text files in its folder have, node_exporter serves either one."""
    server = private_server()
    sites = [Site(server, db, tmp_path) for db in (0, 1)]
    series: list[set[str]] = []
    points: list[set[str]] = []
    for site in sites:
        site.add(1, "STARTED", after=5)
        site.beat()
    sites[1].client.rename(KEY, f"other:{MDT}")
    sites[1].client.copy(f"other:{MDT}", KEY)
    for site, options in ((sites[0], []), (sites[1], []), (sites[1], ["--stream-prefix", "other"])):
        text = site.output("--format", "prometheus", *options)
        series.append({row.rpartition(" ")[0] for row in text.splitlines() if not row.startswith("#")})
        lines = site.output("--format", "influx", *options).splitlines()
        points.append({re.split(r"(?<!\\) ", row)[0] for row in lines})
    for found in (series, points):
        assert all(found) and len(set.union(*found)) == sum(map(len, found))
    where = f'prefix="hsm:actions",redis="redis://127.0.0.1:{server.port}/0"'
    assert f"hsm_redis_up{{{where}}}" in series[0]
    summary = sites[1].report("--stream-prefix", "other")["summary"]
    assert (summary["redis"], summary["prefix"]) == (f"redis://127.0.0.1:{server.port}/1", "other")
    for site in sites:
        site.end()


def test_no_password_is_a_label(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server(requirepass="s3cret")
    site = Site(server, 0, tmp_path)
    site.where = ["--redis-url", f"redis://default:s3cret@{server.host}:{server.port}/0"]
    for form in ("json", "prometheus", "influx"):
        text = site.output("--format", form)
        assert f"redis://{server.host}:{server.port}/0" in text and "s3cret" not in text and "default" not in text


def test_without_redis_it_says_so_and_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "hsm.prom"
    file.write_text("before")
    url = f"redis://127.0.0.1:{free_port()}/0"
    done = subprocess.run(
        [COMMAND, "--redis-url", url, "-o", str(file)], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1 and url in done.stderr
    assert file.read_text() == "before"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--interval", "5"], "--interval goes with --listen"),
        (["--listen", ":9", "--format", "json"], "--listen serves Prometheus metrics"),
        (["--listen", ":9", "-o", "file"], "--listen serves Prometheus metrics"),
        (["--listen", "9879"], "is not [ADDR]:PORT"),
        (["--listen", "::1:9879"], "is not [ADDR]:PORT"),
        (["--listen", ":70000"], "is not [ADDR]:PORT"),
        (["--listen", ":9", "--interval", "nan"], "no number of seconds"),
        (["--format", "xml"], "invalid choice"),
        (["--mdt", ","], "names nothing"),
    ],
    ids=" ".join,
)
def test_usage(site: Site, options: list[str], said: str) -> None:
    done = site.run(*options)
    assert (done.returncode, done.stdout) == (2, "") and said in done.stderr


def test_whoever_closes_the_pipe_ends_it_quietly(filled: Site) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [COMMAND, *filled.where], stdout=writing, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# Start


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_on_a_terminal_while_a_long_history_is_replayed(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = site.client.pipeline(transaction=False)
    for _ in range(3000):
        pipe.xadd(KEY, {"data": b"{}"})
    pipe.execute()
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_QUIET_S", 0.0)
    monkeypatch.setattr(progress, "_INTERVAL_S", 0.0)
    thresholds = gc.get_threshold()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert stats.main(site.where) == 0
    finally:
        gc.set_threshold(*thresholds)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    bars = terminal.getvalue().split("\r\x1b[K")
    assert bars[1].startswith("replaying the streams [## ") and bars[1].endswith("7% of 3,000 entries")
    assert bars[-1] == "", "the bar was left standing"
    assert json.loads(capsys.readouterr().out)["summary"]["total_events_replayed"] == 3000


def test_help_is_quick_because_it_imports_no_libraries() -> None:
    libraries = {"redis", "msgspec", "yaml", "prometheus_client", "tabulate"}
    script = (
        "import sys; from hsm_tools.stats import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end:\n"
        f"    sys.exit(end.code or sorted({libraries} & {{*sys.modules}}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    words: tuple[Any, ...] = ("exit codes:", "examples:", "--listen", "--format", "127.0.0.1")
    assert all(word in done.stdout for word in words)
