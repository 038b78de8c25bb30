"""Streams that are read in several processes: the same is known of them, whatever happens to the processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hsm_shipper.config import Config
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.errors import CalledOff, HsmError, StreamUnavailable
from hsm_tools.command.filters import ActionFilter
from hsm_tools.dashboard.data.update_thread import UpdateThread
from hsm_tools.dashboard.data.view_updater import ViewUpdater
from hsm_tools.live_state import beside
from hsm_tools.live_state.beside import ENTRIES_PER_PROCESS, SideBySide
from hsm_tools.live_state.follow import LiveStreams
from hsm_tools.live_state.live_stream import LiveStream
from hsm_tools.live_state.summary import Summaries
from hsm_tools.statistics.exporter import Exporter
from hsm_tools.statistics.stats_options import FORMATS
from hsm_tools.statistics.stats_report import ReportSource, Stats
from hsm_tools.stats import render
from tests.conftest import PrivateServer
from tests.support.core import earlier_event, line
from tests.support.dashboards import PREFIX, Streams, event
from tests.support.side_by_side import MDTS, however_short
from tests.support.waiting import eventually

NOW_S = 1_795_343_525.5


@pytest.fixture
def short(streams: Streams) -> Iterator[Streams]:
    """Streams of all kinds of entries, of our shipper and of earlier ones, read side by side though they are short."""
    add_all_kinds(streams)
    with however_short():
        yield streams


def add_all_kinds(streams: Streams) -> None:
    for number, mdt in enumerate(MDTS):
        recs = range(5 + number * 60)
        streams.new(mdt, recs)
        streams.add(mdt, *(event(mdt, rec, "UPDATE", "STARTED", status_since=NOW_S - 9) for rec in recs[::2]))
        streams.add(mdt, *(event(mdt, rec, "UPDATE", "FAILED", action="RESTORE") for rec in recs[::3]))
        streams.add(mdt, *(event(mdt, rec, "PURGED", "SUCCEED") for rec in recs[::7]))
        streams.add(mdt, event(mdt, 4, "UPDATE", "WAITING", refresh=True) | {"action": "ARCHIVÉ"}, b"no event", b"{}")
        streams.add(mdt, b'{"event_type":"NEW","cat_idx":1,"rec_idx":8999,"fid":"f","action":"\\ud800","status":"x"}')
        streams.add(mdt, *(earlier_event(line(rec, archive_id=rec), mdt=mdt) for rec in range(9000, 9020)))
        purged = earlier_event(line(9001), mdt=mdt)["action_key"]
        streams.add(mdt, {"event_type": "PURGED", "action_key": purged, "timestamp": 1_759_401_125})
        streams.beat(mdt)


def refreshed(config: Config, jobs: int) -> LiveStreams:
    live = LiveStreams.from_config(config, jobs=jobs)
    try:
        live.refresh()
    finally:
        live.close()
    return live


def reports(live: LiveStreams) -> dict[str, str]:
    """The report in every form, all made at the same moment."""
    streams = list(live)
    stats = Stats(NOW_S, streams, Summaries(ActionFilter()).groups(streams), ReportSource.of(live))
    return {form: render(stats, form) for form in FORMATS}


def known(stream: LiveStream) -> dict[str, Any]:
    """All that is known of a stream."""
    tally = stream.tally
    return {
        "live": [msgspec.structs.astuple(action) for action in stream.live],
        "entries": (stream.entries, stream.malformed, stream.length, stream.first_id, stream.folded_to),
        "events": dict(tally.events),
        "times": {key: (len(times), times.percentiles([0.5])) for key, times in tally.durations.items()},
        "counted": (tally.last, tally.malformed, tally.arrivals.steps(NOW_S, 10)),
        "troubles": (stream.trouble, stream.heartbeat_trouble),
    }


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started from here on, of this one."""
    found: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        process = popen(*args, **kwargs)
        found.append(process)
        return process

    monkeypatch.setattr("hsm_tools.live_state.beside.subprocess.Popen", start)
    return found


def test_every_form_of_the_report_is_the_same_to_the_byte(
    short: Streams, started: list[subprocess.Popen[bytes]]
) -> None:
    one = refreshed(short.config, 1)
    assert not started
    three = refreshed(short.config, 3)
    assert len(started) == 2 and all(process.returncode is not None for process in started)
    assert reports(three) == reports(one)
    assert [known(stream) for stream in three] == [known(stream) for stream in one]


def test_what_another_process_has_read_is_followed_as_if_read_here(short: Streams) -> None:
    followed = [LiveStreams.from_config(short.config, jobs=jobs) for jobs in (1, 4)]
    for live in followed:
        live.refresh()
    for mdt in MDTS:
        short.add(mdt, event(mdt, 1, "PURGED", "SUCCEED"), event(mdt, 2, "UPDATE", "CANCELED"), event(mdt, 77_000))
        short.add(mdt, {"event_type": "PURGED", "action_key": earlier_event(line(9002))["action_key"], "timestamp": 1})
    short.client.delete(stream_key(PREFIX, MDTS[3]))
    short.new(MDTS[5], [1])
    for live in followed:
        live.refresh()
        live.close()
    one, four = followed
    assert [known(stream) for stream in four] == [known(stream) for stream in one]


def test_what_was_there_at_the_start_counts_no_more_than_with_one_process(short: Streams) -> None:
    """As Prometheus needs it: counters begin at 0."""
    exporters = [Exporter(short.config, ActionFilter(), jobs) for jobs in (1, 3)]
    found: list[list[dict[tuple[str, ...], float]]] = []
    for _ in range(2):
        for exporter in exporters:
            exporter.refresh()
        found.append(
            [
                {
                    (sample.name, *sample.labels.values()): sample.value
                    for metric in exporter.collect()
                    for sample in metric.samples
                    if sample.name in ("hsm_events_total", "hsm_live_actions", "hsm_stream_malformed_entries_total")
                }
                for exporter in exporters
            ]
        )
        for mdt in MDTS:
            short.add(mdt, event(mdt, 70_000), event(mdt, 2, "PURGED", "SUCCEED"), b"no event")
    for one, three in found:
        assert three == one
    assert found[0][0] != found[1][0]


def test_every_entry_is_told_as_progress(short: Streams) -> None:
    told: list[int] = []
    live = LiveStreams.from_config(short.config, on_page=told.append, jobs=3)
    live.refresh()
    live.close()
    assert sum(told) == sum(stream.length for stream in live) == sum(stream.entries for stream in live)
    assert not any(stream.read_beside for stream in live)


def test_the_dashboard_tells_how_far_all_of_them_are(short: Streams) -> None:
    done: list[int] = []
    entries = sum(short.client.xlen(stream_key(PREFIX, mdt)) for mdt in MDTS)

    class Recorded(ViewUpdater):
        def _show(self, **changes: Any) -> None:
            super()._show(**changes)
            if self.view.progress is not None:
                done.append(self.view.progress.done)
                assert self.view.progress.total == entries

    updater = Recorded(short.config, ActionFilter(), 3)
    updater.look()
    updater.close()
    assert done == sorted(done) and done[-1] <= entries
    assert updater.view.state is not None and updater.view.state.entries == entries


def test_no_more_processes_are_started_than_are_of_use() -> None:
    much, little = ENTRIES_PER_PROCESS, ENTRIES_PER_PROCESS // 20
    of_two, of_eight = SideBySide(Config(), 2), SideBySide(Config(), 8)
    assert of_eight.beside([]) == of_eight.beside([much * 100]) == 0
    assert of_eight.beside([little] * 16) == 0
    assert of_eight.beside([much * 100, *[little] * 15]) == 0  # what the longest takes is waited for in any case
    assert of_eight.beside([much, much]) == 1
    assert of_eight.beside([much] * 16) == 7
    assert of_two.beside([much] * 16) == 1
    assert SideBySide(Config(), 1).beside([much] * 16) == 0


def test_where_no_process_can_be_started_this_one_reads_it_all(short: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    expected = reports(refreshed(short.config, 1))
    monkeypatch.setattr("hsm_tools.live_state.beside.subprocess.Popen", no_room)
    assert reports(refreshed(short.config, 3)) == expected


def test_a_process_that_cannot_begin_is_an_error(short: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsm_tools.live_state.beside._PROGRAM", Path("/nowhere/reading_process.py"))
    with pytest.raises(HsmError, match=r"the process that was to read stream .* beside this one .*; .*--jobs 1"):
        refreshed(short.config, 2)


def test_a_process_that_is_killed_ends_the_dashboard_with_an_error(
    short: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = beside._started

    def killed(its: Any) -> subprocess.Popen[bytes]:
        process = starting(its)
        process.kill()
        return process

    monkeypatch.setattr(beside, "_started", killed)
    update_thread = UpdateThread(ViewUpdater(short.config, ActionFilter(), 3), 0.1)
    update_thread.start()
    failure = eventually(lambda: update_thread.failure)
    update_thread.close()
    assert isinstance(failure, HsmError) and "was ended by signal 9 (Killed)" in str(failure)


def test_a_stream_that_is_refused_is_told_as_by_one_process(private_server: PrivateServer) -> None:
    server = private_server()
    streams = Streams(server, 0)
    add_all_kinds(streams)
    pages = [f"(+xrange ~{stream_key(PREFIX, mdt)})" for mdt in MDTS[:-2]]
    with server.client() as client:
        rules = ("on", ">secret", "~*", "-@all", "+select", "+scan", "+exists", "+get", "+xinfo|stream", *pages)
        client.execute_command("ACL", "SETUSER", "reader", *rules)
    config = Config(redis_url=f"redis://reader:secret@{server.host}:{server.port}/0")
    with however_short():
        one, three = refreshed(config, 1), refreshed(config, 3)
    troubles = [stream.trouble for stream in one if stream.trouble is not None]
    assert len(troubles) == 2 and all("+xrange" in trouble for trouble in troubles)
    assert [known(stream) for stream in three] == [known(stream) for stream in one]
    assert reports(three) == reports(one)


def test_what_a_server_that_is_behind_has_given_is_not_taken(short: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that another process has asked: it does not end with the entry that the stream ends with."""
    expected = [known(stream) for stream in refreshed(short.config, 1)]
    take_over, refused = LiveStream.take_over, []

    def behind(stream: LiveStream, folded: Any, end: Any) -> bool:
        folded = folded._replace(reached=replace(folded.reached, last_entry="1-1"))
        refused.append(take_over(stream, folded, end))
        return refused[-1]

    monkeypatch.setattr(LiveStream, "take_over", behind)
    assert [known(stream) for stream in refreshed(short.config, 3)] == expected
    assert refused and not any(refused)


def test_a_server_that_goes_away_meanwhile_is_unavailable(
    private_server: PrivateServer, started: list[subprocess.Popen[bytes]]
) -> None:
    server = private_server()
    streams = Streams(server, 0)
    add_all_kinds(streams)
    live = LiveStreams.from_config(streams.config, jobs=3, on_page=lambda _: server.kill())
    with however_short(), pytest.raises(StreamUnavailable):
        live.refresh()
    live.close()
    assert started and all(process.returncode is not None for process in started)


def test_a_look_that_is_called_off_leaves_no_process(short: Streams, started: list[subprocess.Popen[bytes]]) -> None:
    updater = ViewUpdater(short.config, ActionFilter(), 3)
    updater.stop()
    with pytest.raises(CalledOff):
        updater.look()
    updater.close()
    assert started and all(process.returncode is not None for process in started)
