"""What happens at a site over days, with the installed command and a real server."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from hsm_shipper.state.poll_status import state_file
from tests.acceptance.conftest import MakeServer
from tests.simulator import SimulatedMdt, Workload, populate
from tests.support.site import MDT, STREAM, Oracle, is_true, run_once, verdict
from tests.support.truth import digests_of
from tests.support.waiting import eventually

FIXTURES = Path(__file__).parents[1] / "fixtures/actions"


def is_gone(path: Path) -> bool:
    return not path.exists()


def test_a_day_of_life_is_told_exactly(make_server: MakeServer) -> None:
    server, mdt, oracle = make_server(poll_interval=0.02), SimulatedMdt(MDT, seed=7), Oracle()
    populate(mdt, 300)
    workload = Workload(mdt, arrivals_per_s=0.1, mean_work_s=600)
    mdt.mount(server.mds)
    status = server.start_polled(mdt)
    oracle.see(mdt.listing())
    for _ in range(24 * 6):
        workload.advance(600)
        mdt.write()
        status = server.wait_polled(mdt)
        oracle.see(mdt.listing())
        assert status.live == len(mdt)
    told = verdict(server.redis, mdt)
    assert told.complaints == []
    # Maintenance trims the stream meanwhile: what was appended is counted in the state file.
    appended = {"NEW": status.events_new, "UPDATE": status.events_update, "PURGED": status.events_purged}
    assert Counter(appended) == oracle.expected
    assert min(appended.values()) > 300
    assert is_true(server.redis, mdt)


def test_failover_and_back(make_server: MakeServer) -> None:
    mds1, mds2 = make_server("mds1"), make_server("mds2")
    mdt = SimulatedMdt(MDT, seed=1)
    populate(mdt, 500)
    oracle = Oracle()
    mdt.mount(mds1.mds)
    for server in (mds1, mds2):
        server.start()
    mds1.wait_polled(mdt)
    oracle.see(mdt.listing())
    for loser, winner in ((mds1, mds2), (mds2, mds1), (mds1, mds2)):
        mdt.unmount()
        eventually(partial(is_gone, state_file(loser.state_dir, MDT)))
        running = [record for record in mdt.records() if record.status == "STARTED"]
        for record in running[:5]:
            mdt.set_status(record, "SUCCEED")
        mdt.remove(running[6])
        mdt.submit("ARCHIVE")
        mdt.mount(winner.mds)
        winner.wait_running(MDT)
        winner.wait_polled(mdt)
        oracle.see(mdt.listing())
    told = verdict(mds1.redis, mdt)
    assert told.complaints == []
    assert told.events == oracle.expected
    assert is_true(mds1.redis, mdt)


def test_an_mdt_that_left_is_not_purged(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 50)
    mdt.mount(server.mds)
    server.start_polled(mdt)
    mdt.unmount()
    server.wait_running()
    eventually(partial(is_gone, state_file(server.state_dir, MDT)))
    assert verdict(server.redis, mdt).events == {"NEW": 50}


def test_one_empty_reading_is_not_believed_two_are(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 40)
    mdt.mount(server.mds)
    run_once(server)
    server.mds.write_actions(MDT, [])
    assert "40 of 40 live actions are missing" in run_once(server)
    assert verdict(server.redis, mdt).events == {"NEW": 40}
    run_once(server)
    assert verdict(server.redis, mdt).events == {"NEW": 40, "PURGED": 40}


def test_a_list_cut_short_once_changes_nothing(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 100)
    mdt.mount(server.mds)
    run_once(server)
    for kept in (0, 20, 85):
        server.mds.write_actions(MDT, [line + b"\n" for line in mdt.lines()[:kept]])
        run_once(server)
        mdt.write()
        run_once(server)
    server.mds.write_actions(MDT, [mdt.listing()[:-30]])
    torn = server.run("--run-once")
    assert torn.returncode == 1
    assert "its last line has no newline" in torn.stderr
    assert verdict(server.redis, mdt).events == {"NEW": 100}


def test_the_real_listings_in_order(make_server: MakeServer) -> None:
    """Lustre 2.17.57 with a copytool: everything in the order in which it happened."""
    server, mdt, oracle = make_server(poll_interval=0.02), SimulatedMdt("lustre-MDT0000"), Oracle()
    mdt.mount(server.mds)
    server.start_polled(mdt)
    listings = sorted((FIXTURES / "lustre-2.17.57").glob("[0-9]*.txt"))
    assert len(listings) > 30
    for path in listings:
        listing = path.read_bytes()
        server.mds.write_actions(mdt.name, [listing])
        server.wait_polled(mdt)
        oracle.see(listing)
    told = verdict(server.redis, mdt)
    assert told.complaints == []
    assert told.events == oracle.expected


def test_hostile_lines_are_counted_and_harm_nothing(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 30)
    mdt.mount(server.mds)
    good = [line + b"\n" for line in mdt.lines()]
    strange = good[0].replace(b"action=", b"action=NEVER_SEEN_").replace(b"/1]", b"/64001]", 1)
    raw = good[1].replace(b"data=[", b"data=[\xff\xfe\x00").replace(b"/2]", b"/64002]", 1)
    hostile = [
        b"lrh=[type=10680000 len=136 idx=99999999999999999999/7] fid=[0x1:0x1:0x0]\n",
        b"x" * 70_000 + b"\n",
        b"\x00\x01\x02\n",
        b"\n",
        b"\x1b]0;owned\x07\n",
    ]
    server.mds.write_actions(MDT, [*good, strange, raw, *hostile])
    run_once(server, returncode=1)
    out = run_once(server, returncode=1)
    assert "\x1b" not in out
    status = server.status(mdt)
    assert status is not None
    assert (status.live, status.lines_not_understood) == (32, len(hostile))
    told = verdict(server.redis, mdt)
    assert told.events == {"NEW": 32}
    assert told.complaints == []
    server.mds.write_actions(MDT, [*good[1:], strange, raw, *hostile])
    run_once(server, returncode=1)
    run_once(server, returncode=1)
    assert verdict(server.redis, mdt).events == {"NEW": 32, "PURGED": 1}, "lines nobody understands settle"


def _as_earlier_shipper(line: bytes, raw: bool) -> str:
    words = dict(word.split("=", 1) for word in line.decode().split(" ") if "=" in word)
    cat, rec = words["idx"].rstrip("]").split("/")
    fid = words["fid"].strip("[]")
    event = {
        "event_type": "NEW",
        "action_key": f"{fid}:{words['action']}",
        "mdt": MDT,
        "cat_idx": int(cat),
        "rec_idx": int(rec),
        "fid": fid,
        "action": words["action"],
        "status": words["status"],
        "timestamp": 1_700_000_000,
    }
    if raw:
        event["raw"] = line.decode()
    return json.dumps(event)


@pytest.mark.parametrize("raw", [True, False])
def test_the_stream_of_an_earlier_shipper_goes_on(make_server: MakeServer, raw: bool) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 20)
    gone, ended = mdt.submit("ARCHIVE"), mdt.submit("REMOVE")
    for line in mdt.lines():
        server.redis.xadd(STREAM, {"data": _as_earlier_shipper(line, raw)})
    server.redis.xadd(STREAM, {"data": json.dumps({"event_type": "PURGED", "action_key": f"{ended.fid}:REMOVE"})})
    mdt.remove(gone)
    mdt.remove(ended)
    mdt.mount(server.mds)
    run_once(server)
    told = verdict(server.redis, mdt)
    assert told.events == {"NEW": 22, "PURGED": 2}, "nothing is sent again; what had ended unseen is purged"
    assert told.complaints == []
    assert told.digests().keys() == digests_of(mdt.listing()).keys()
    run_once(server)
    assert server.redis.xlen(STREAM) == 24


def test_two_shippers_on_one_state_folder(make_server: MakeServer) -> None:
    server, mdt = make_server(), SimulatedMdt(MDT)
    populate(mdt, 5)
    mdt.mount(server.mds)
    server.start()
    server.wait_running(MDT)
    second = server.root / "second.yaml"
    keys = json.loads(server.config.read_text()) | {"run_dir": str(server.root / "run2")}
    second.write_text(json.dumps(keys))
    original, server.config = server.config, second
    refused = server.run()
    server.config = original
    assert refused.returncode == 3
    assert f"pid {server.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert verdict(server.redis, mdt).complaints == []


def test_no_raw_lines_on_request(make_server: MakeServer) -> None:
    server, mdt = make_server(include_raw=False), SimulatedMdt(MDT)
    populate(mdt, 30)
    mdt.mount(server.mds)
    run_once(server)
    shutil.rmtree(server.state_dir)
    mdt.remove(mdt.records()[3])
    mdt.write()
    run_once(server)
    told = verdict(server.redis, mdt)
    assert told.events == {"NEW": 30, "PURGED": 1}
    assert told.complaints == []
    assert is_true(server.redis, mdt)
    assert all("raw" not in event for event in server.events(MDT))
