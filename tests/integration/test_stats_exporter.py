"""`hsm-stream-stats --listen`: what a scrape is given, what is counted, and what happens when Redis or we end."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, Signals
from typing import NoReturn

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import heartbeat_key
from hsm_tools.command.filters import ActionFilter
from hsm_tools.statistics.exporter import Exporter, serve
from hsm_tools.statistics.stats_options import Address
from tests.conftest import PrivateServer
from tests.support.core import KEY, MDT
from tests.support.servers import RedisServer, free_port
from tests.support.stats_runs import COMMAND, ENVIRONMENT, PREFIX, Site, has_ipv6, samples
from tests.support.waiting import DEADLINE_S, eventually

# Waits for a server that hangs for as long as no test does.
PATIENT = """
from hsm_shipper.stream import connection
connection.REPLY_TIMEOUT_S = 3600.0
from hsm_tools.stats import main
main()
"""
OF_MDT = f'mdt="{MDT}"'


@pytest.fixture
def exporter(redis_server: RedisServer, redis_db: int) -> Exporter:
    """An exporter in this process, refreshed by hand."""
    config = Config(redis_host=redis_server.host, redis_port=redis_server.port, redis_db=redis_db)
    return Exporter(config, ActionFilter())


def served(exporter: Exporter, name: str) -> dict[str, float]:
    """The samples of one name after a refresh."""
    exporter.refresh()
    registry = CollectorRegistry()
    registry.register(exporter)
    return samples(generate_latest(registry).decode(), name)


def test_it_serves_what_is_live_and_follows_it(site: Site) -> None:
    site.add(1)
    exporter = site.export()
    waiting = f'action="ARCHIVE",{OF_MDT},status="WAITING"'
    exporter.wait("hsm_live_actions", 1, waiting)
    site.add(2)
    site.beat()
    exporter.wait("hsm_live_actions", 2, waiting)
    exporter.wait("hsm_worker_up", 1, OF_MDT)
    site.beat(failed_polls=7)
    exporter.wait("hsm_worker_failed_polls_total", 7, OF_MDT)
    assert exporter.values("hsm_coordinator_state") == {f'{OF_MDT},state="enabled"': 1}
    assert exporter.values("hsm_copytool_ended_requests") == {
        f'{OF_MDT},result="error"': 2,
        f'{OF_MDT},result="ok"': 120,
    }
    assert exporter.values("hsm_redis_up") == {"": 1}
    assert time.time() - exporter.values("hsm_exporter_last_refresh_timestamp_seconds")[""] < DEADLINE_S
    assert exporter.values("process_resident_memory_bytes")[""] > 1e6


def test_it_speaks_openmetrics_to_those_who_ask(site: Site) -> None:
    site.add(1)
    site.add(1, "STARTED", "UPDATE", after=20)
    site.beat()
    exporter = site.export()
    exporter.wait("hsm_redis_up", 1)
    text = exporter.scrape(Accept="application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    assert "hsm_stream_length_entries" in {family.name for family in families}


def test_filters_choose_what_is_live(site: Site) -> None:
    site.add(1)
    site.add(2, action="RESTORE")
    exporter = site.export("--action", "restore")
    exporter.wait("hsm_live_actions", 1, f'action="RESTORE",{OF_MDT},status="WAITING"')
    assert len(exporter.values("hsm_live_actions")) == 1
    assert exporter.values("hsm_stream_live_actions") == {OF_MDT: 2}


def test_the_one_shot_text_has_the_same_names_without_what_only_an_exporter_counts(site: Site) -> None:
    site.add(1, "STARTED", after=5)
    site.beat()
    exporter = site.export()
    exporter.wait("hsm_redis_up", 1)
    served, once = (
        {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE hsm_")}
        for text in (exporter.scrape(), site.output("--format", "prometheus"))
    )
    counted_by_workers = {"hsm_worker_failed_polls_total": "counter"}
    assert once == {name: kind for name, kind in served.items() if kind == "gauge"} | counted_by_workers
    assert set(served.values()) == {"gauge", "counter", "histogram"}


def test_a_heartbeat_that_cannot_be_read_is_said_once_and_serves_no_worker_that_is_down(
    site: Site, exporter: Exporter, caplog: pytest.LogCaptureFixture
) -> None:
    site.add(1)
    site.beat()
    site.client.set(heartbeat_key(PREFIX, MDT), "another program's")
    for _ in range(2):
        assert served(exporter, "hsm_worker_up") == {}
    assert served(exporter, "hsm_worker_heartbeat_readable") == {OF_MDT: 0}
    assert [record.getMessage() for record in caplog.records] == [
        f'{MDT}: heartbeat does not decode: b"another program\'s"'
    ]
    site.beat()
    assert served(exporter, "hsm_worker_up") == {OF_MDT: 1}
    assert served(exporter, "hsm_worker_heartbeat_readable") == {OF_MDT: 1}


# Counting


def test_counters_count_from_the_start_of_the_exporter(site: Site, exporter: Exporter) -> None:
    site.add(1)
    site.add(1, "FAILED", "UPDATE", after=10)
    site.add_raw(b"no event")
    failures = {f'action="{action}",{OF_MDT}': 0 for action in ("ARCHIVE", "RESTORE", "REMOVE", "CANCEL")}
    assert served(exporter, "hsm_action_failures_total") == failures
    assert served(exporter, "hsm_malformed_entries_total") == {OF_MDT: 0}
    assert served(exporter, "hsm_stream_malformed_entries") == {OF_MDT: 1}
    assert served(exporter, "hsm_stream_events_total") == {}
    site.add(2)
    site.add(2, "FAILED", "UPDATE", after=70)
    site.add_raw(b"no event")
    assert served(exporter, "hsm_action_failures_total") == failures | {f'action="ARCHIVE",{OF_MDT}': 1}
    assert served(exporter, "hsm_malformed_entries_total") == {OF_MDT: 1}
    assert served(exporter, "hsm_stream_events_total") == {
        f'action="ARCHIVE",event_type="NEW",{OF_MDT},status="WAITING"': 1,
        f'action="ARCHIVE",event_type="UPDATE",{OF_MDT},status="FAILED"': 1,
    }


def test_a_stream_that_is_born_later_is_counted_from_its_first_entry(site: Site, exporter: Exporter) -> None:
    exporter.refresh()
    site.add(1)
    assert list(served(exporter, "hsm_stream_events_total").values()) == [1]


def test_a_stream_that_is_readable_later_is_counted_from_then_on(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server()
    site = Site(server, 0, tmp_path)
    site.add(1)
    allowed = ("on", ">word", "%R~none", "+@read", "+select", "+scan", "+auth")
    site.client.execute_command("ACL", "SETUSER", "one", *allowed)  # type: ignore[no-untyped-call]
    exporter = Exporter(Config(redis_url=f"redis://one:word@{server.host}:{server.port}/0"), ActionFilter())
    assert served(exporter, "hsm_stream_readable") == {OF_MDT: 0}
    site.client.execute_command("ACL", "SETUSER", "one", f"%R~{KEY}")  # type: ignore[no-untyped-call]
    assert served(exporter, "hsm_stream_readable") == {OF_MDT: 1}
    assert served(exporter, "hsm_stream_events_total") == {}
    site.add(2)
    assert list(served(exporter, "hsm_stream_events_total").values()) == [1]
    site.end()


def test_counters_never_go_back_when_a_stream_is_folded_anew(site: Site, exporter: Exporter) -> None:
    exporter.refresh()
    site.add(1)
    site.add(1, "STARTED", "UPDATE", after=20)
    site.add_raw(b"no event")
    names = ("hsm_stream_events_total", "hsm_malformed_entries_total", "hsm_action_start_wait_seconds_bucket")
    before = {name: served(exporter, name) for name in names}
    kept = site.client.dump(KEY)
    site.client.delete(KEY)
    exporter.refresh()
    site.client.restore(KEY, 0, kept)  # type: ignore[arg-type]
    assert {name: served(exporter, name) for name in names} == before


def test_times_are_histograms(site: Site, exporter: Exporter) -> None:
    exporter.refresh()
    site.add(1)
    site.add(1, "STARTED", "UPDATE", after=20)
    site.add(1, "SUCCEED", "UPDATE", after=4000)
    of_action = f'action="ARCHIVE",{OF_MDT}'
    assert served(exporter, "hsm_action_start_wait_seconds_sum") == {of_action: 20}
    assert served(exporter, "hsm_action_start_wait_seconds_count") == {of_action: 1}
    buckets = served(exporter, "hsm_action_duration_seconds_bucket")
    counts = {key.split('le="')[1].split('"')[0]: count for key, count in buckets.items()}
    assert counts["3600.0"] == 0 and counts["14400.0"] == counts["+Inf"] == 1
    assert all(f'{OF_MDT},status="SUCCEED"' in key for key in buckets)


# Redis away


def test_without_redis_the_last_state_is_served_and_said_once(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server(appendonly="yes", appendfsync="always")
    site = Site(server, 0, tmp_path)
    site.add(1)
    exporter = site.export()
    exporter.wait("hsm_stream_live_actions", 1, OF_MDT)
    server.kill()
    exporter.wait("hsm_redis_up", 0)
    before = exporter.values("hsm_exporter_last_refresh_timestamp_seconds")
    eventually(lambda: exporter.values("hsm_redis_up") == {"": 0})
    assert exporter.values("hsm_stream_live_actions") == {OF_MDT: 1}
    assert exporter.values("hsm_exporter_last_refresh_timestamp_seconds") == before
    server.start()
    exporter.wait("hsm_redis_up", 1)
    said = [exporter.next_line()]
    while "answers again" not in said[-1]:
        assert "no answer from Redis" in said[-1] and "what was known before is served" in said[-1]
        said.append(exporter.next_line())
    assert 1 < len(said) == len(set(said)), "once for each reason: closed, and then refused"
    assert exporter.values("hsm_stream_live_actions") == {OF_MDT: 1}
    assert exporter.values("hsm_stream_events_total") == {}, "what was there before counts as arrived"
    site.end()


def test_it_starts_without_redis_and_waits_for_it(tmp_path: Path, private_server: PrivateServer) -> None:
    server = private_server()
    site = Site(server, 0, tmp_path)
    server.kill()
    exporter = site.export()
    exporter.wait("hsm_redis_up", 0)
    assert exporter.values("hsm_exporter_last_refresh_timestamp_seconds") == {"": 0}
    server.start()
    exporter.wait("hsm_redis_up", 1)
    site.end()


def test_a_redis_that_hangs_holds_up_neither_a_scrape_nor_the_end(
    private_server: PrivateServer, tmp_path: Path
) -> None:
    server = private_server()
    site = Site(server, 0, tmp_path)
    site.add(1)
    site.command = [sys.executable, "-c", PATIENT]
    exporter = site.export()
    exporter.wait("hsm_stream_live_actions", 1, OF_MDT)
    server.pause()
    for _ in range(20):
        assert exporter.values("hsm_stream_live_actions") == {OF_MDT: 1}
    exporter.process.send_signal(SIGTERM)
    assert exporter.process.wait(DEADLINE_S) == -SIGTERM
    server.resume()
    site.end()


# Beginning and end


@pytest.mark.parametrize(("signal", "code"), [(SIGTERM, -SIGTERM), (SIGHUP, -SIGHUP), (SIGINT, 130)])
def test_it_ends_at_once_and_quietly(site: Site, signal: Signals, code: int) -> None:
    site.add(1)
    exporter = site.export("--interval", "3600")
    exporter.wait("hsm_redis_up", 1)
    exporter.process.send_signal(signal)
    _, err = exporter.process.communicate(timeout=DEADLINE_S)
    assert (exporter.process.returncode, err) == (code, "")


def test_without_an_address_it_listens_on_this_host_only(site: Site) -> None:
    exporter = site.export(listen=":0")
    assert exporter.target.startswith("127.0.0.1:")


def test_it_listens_on_ipv6(site: Site) -> None:
    if not has_ipv6():
        pytest.skip("this host has no IPv6")
    exporter = site.export(listen="[::1]:0")
    assert exporter.target.startswith("[::1]:")
    exporter.wait("hsm_redis_up", 1)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "no.such.host.invalid:{port}", "192.0.2.1:{port}"])
def test_an_address_that_cannot_be_listened_on_is_one_line(site: Site, address: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        done = site.run("--listen", address.format(port=other.getsockname()[1]))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "cannot listen on" in done.stderr


def test_a_wrong_configuration_is_said_before_anything_is_served(tmp_path: Path) -> None:
    command = [COMMAND, "--listen", ":0", "--redis-url", "http://redis"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "redis_url" in done.stderr


def test_when_the_refreshing_breaks_nothing_old_is_served_for_ever(exporter: Exporter) -> None:
    class BrokenError(Exception):
        pass

    def broken(interval_s: float) -> NoReturn:
        raise BrokenError

    exporter.run = broken  # type: ignore[method-assign]
    with pytest.raises(BrokenError):
        serve(exporter, Address("127.0.0.1", 0), 1.0, lambda _: None)
