"""Which part of the streams `hsm-stream-tail` prints, and what the filters and forms make of it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PrivateServer
from tests.support.readings import MDT0, MDT1, add
from tests.support.servers import free_port
from tests.support.tails import Tails, read_line, tails_on
from tests.support.waiting import DEADLINE_S


@pytest.fixture
def tails(tails: Tails) -> Tails:
    tails.where.append("--no-paths")
    return tails


def statuses(output: str) -> list[str]:
    return [line.split()[4] for line in output.splitlines()]


def some_history(tails: Tails) -> None:
    """Eight events of two MDTs, interleaved by id, of which two are hidden."""
    for n in range(1, 9):
        stream, mdt = (MDT0, "elm-MDT0000") if n % 2 else (MDT1, "elm-MDT0001")
        hidden = {"event_type": "PURGED"} if n in (5, 7) else {}
        tails.append(stream, f"{1_759_400_000_000 + n * 1000}-0", mdt=mdt, status=f"S{n}", **hidden)


@pytest.mark.parametrize(
    ("count", "shown"),
    [("0", []), ("1", ["S8"]), ("3", ["S4", "S6", "S8"]), ("6", ["S1", "S2", "S3", "S4", "S6", "S8"]),
     ("99", ["S1", "S2", "S3", "S4", "S6", "S8"])],
)  # fmt: skip
def test_the_last_n_are_those_that_are_shown_over_all_streams(tails: Tails, count: str, shown: list[str]) -> None:
    some_history(tails)
    done = tails.run("-n", count, "--no-follow")
    assert (done.returncode, done.stderr) == (0, "")
    assert statuses(done.stdout) == shown


def test_the_last_n_pass_the_filters(tails: Tails) -> None:
    some_history(tails)
    assert statuses(tails.run("-n", "2", "--no-follow", "--mdt", "*0").stdout) == ["S1", "S3"]
    tails.client.xadd(MDT0, {"data": b"malformed"})
    assert statuses(tails.run("-n", "2", "--no-follow", "--mdt", "*0").stdout) == ["S1", "S3"]


def peak_memory_bytes(tails: Tails, *options: str) -> int:
    tail = tails.start(*options)
    assert tail.stdout is not None
    tail.stdout.read()
    _pid, status, usage = os.wait4(tail.pid, 0)
    tail.returncode = os.waitstatus_to_exitcode(status)
    assert tail.returncode == 0
    return usage.ru_maxrss * 1024


def test_the_last_n_are_looked_for_once_and_in_little_memory(tails: Tails) -> None:
    entries = 30_000
    add(tails.client, MDT0, range(entries))
    least_bytes = peak_memory_bytes(tails, "-n", "1", "--no-follow")
    calls = xrevrange_calls(tails)
    most_bytes = peak_memory_bytes(tails, "-n", "20", "--no-follow", "--failed")
    assert most_bytes - least_bytes < 25 * 2**20, "all that was passed over was held"
    assert xrevrange_calls(tails) - calls <= entries / 1000 + 1, "it was read again and again"


def xrevrange_calls(tails: Tails) -> int:
    stats: Any = tails.client.info("commandstats")
    return int(stats.get("cmdstat_xrevrange", {"calls": 0})["calls"])


def test_after_the_last_n_it_goes_on_without_a_gap(tails: Tails) -> None:
    some_history(tails)
    tail = tails.start("-n", "2")
    assert [statuses(read_line(tail)) for _ in range(2)] == [["S6"], ["S8"]]
    tails.append(status="NEXT")
    assert statuses(read_line(tail)) == ["NEXT"]
    tail.send_signal(signal.SIGINT)
    assert tail.wait(DEADLINE_S) == 130


def test_since_a_time_the_entries_from_then_on_are_shown(tails: Tails) -> None:
    some_history(tails)
    assert statuses(tails.run("--since", "1759400006", "--no-follow").stdout) == ["S6", "S8"]
    assert statuses(tails.run("--since", "2025-10-02T10:13:26", "--no-follow").stdout) == ["S6", "S8"]
    assert statuses(tails.run("--since", "1759400006.001", "--no-follow").stdout) == ["S8"]
    assert tails.run("--since", "5s", "--no-follow").stdout == ""


def test_since_goes_on_with_what_arrives(tails: Tails) -> None:
    some_history(tails)
    tail = tails.start("--since", "1759400008")
    assert statuses(read_line(tail)) == ["S8"]
    tails.append(status="NEXT")
    assert statuses(read_line(tail)) == ["NEXT"]


def test_no_follow_alone_and_run_once_show_all_that_there_is_and_end(tails: Tails) -> None:
    some_history(tails)
    everything = tails.run("--run-once")
    assert sorted(statuses(everything.stdout)) == ["S1", "S2", "S3", "S4", "S6", "S8"]
    assert tails.run("--no-follow").stdout == everything.stdout
    assert tails.run("--from-beginning", "--no-follow").stdout == everything.stdout


@pytest.mark.parametrize("option", ["--run-once", "--no-follow", "-n=3"])
def test_without_redis_what_ends_fails_in_one_line(tails: Tails, option: str) -> None:
    tails.where = ["--host", "127.0.0.1", "--port", str(free_port())]
    done = tails.run(option.replace("-n=3", "-n3"))
    assert done.returncode == 1 and done.stdout == ""
    assert "no answer from Redis at redis://127.0.0.1:" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--failed"], ["FAILED"]),
        (["--failed", "--show", "PURGED"], ["FAILED"]),
        (["--failed", "--status", "canceled"], ["FAILED", "CANCELED"]),
        (["--status", "purged", "--show", "PURGED"], ["PURGED"]),
        (["--action", "rest*"], ["CANCELED"]),
        (["--mdt", "elm-MDT0001,oak-*"], ["FAILED", "PURGED"][:1]),
        (["--fid", "0x200000401:0x4:*"], ["CANCELED"]),
        (["--fid", "[0x200000401:0x4:0x0]"], ["CANCELED"]),
        (["--fid", "0x200000401:0x[34]:0x0"], ["FAILED", "CANCELED"]),
        (["--mdt", "elm-MDT0001", "--status", "waiting"], []),
    ],
)
def test_filters(tails: Tails, options: list[str], shown: list[str]) -> None:
    tails.append(status="WAITING", fid="0x200000401:0x1:0x0")
    tails.append(status="FAILED", mdt="elm-MDT0001")
    tails.append(status="PURGED", mdt="elm-MDT0001", event_type="PURGED", last_status="FAILED")
    tails.append(status="CANCELED", action="RESTORE", fid="0x200000401:0x4:0x0")
    done = tails.run("--run-once", *options)
    assert (statuses(done.stdout), done.stderr) == (shown, "")


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--hide", "STARTED"], ["WAITING", "SUCCEED"]),
        (["--hide", "waiting", "SUCCEED"], ["STARTED"]),
        (["--hide", "waiting,succeed", "--hide", "UPDATE"], []),
        (["--hide", "NEW", "STARTED", "--show", "PURGED"], ["SUCCEED", "PURGED"]),
    ],
)
def test_what_is_hidden_may_be_a_status_and_many_words(tails: Tails, options: list[str], shown: list[str]) -> None:
    for kind, status in (("NEW", "WAITING"), ("UPDATE", "STARTED"), ("UPDATE", "SUCCEED"), ("PURGED", "PURGED")):
        tails.append(event_type=kind, status=status)
    assert statuses(tails.run("--run-once", *options).stdout) == shown


def test_json_is_the_event_with_stream_and_id(tails: Tails) -> None:
    entry_id = tails.append(status="STARTED", host="m\x1b\N{SNOWMAN}", id="its own")
    done = tails.run("--run-once", "--json", PYTHONIOENCODING="ascii", TERM="xterm")
    [line] = done.stdout.splitlines()
    assert line.isprintable() and line.isascii()
    shown = json.loads(line)
    assert shown["host"] == "m\x1b\N{SNOWMAN}" and (shown["stream"], shown["id"]) == (MDT0, entry_id)
    assert "path" not in shown


def test_a_template_makes_the_line(tails: Tails) -> None:
    tails.append(status="STARTED", first_seen=1759401000)
    assert tails.run("--run-once", "--format", "{mdt} {status:>9} {age} {path}").stdout == (
        "elm-MDT0000   STARTED 2m05s [0x200000401:0x3:0x0]\n"
    )


@pytest.mark.parametrize("form", [[], ["--json"], ["--format", "{status}"]])
def test_an_entry_nested_almost_too_deep_is_no_end(tails: Tails, form: list[str]) -> None:
    for depth in range(940, 1000):
        tails.client.xadd(MDT0, {"data": b'{"event_type":"NEW","status":' + b"[" * depth + b"]" * depth + b"}"})
    tails.append(status="AFTER")
    done = tails.run("--run-once", *form)
    assert done.returncode == 0 and "AFTER" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_colour_is_always_never_or_up_to_the_terminal(tails: Tails) -> None:
    tails.append(status="FAILED")
    assert "\x1b" not in tails.run("--run-once", TERM="xterm").stdout
    assert "\x1b" not in tails.run("--run-once", "--color", "never", TERM="xterm").stdout
    assert "\x1b[1;31mFAILED\x1b[0m" in tails.run("--run-once", "--color", "always", NO_COLOR="1").stdout
    assert "\x1b" not in tails.run("--run-once", "--color", "always", "--json").stdout


def test_it_keeps_up_with_a_slow_reader_without_losing_a_line(tails: Tails) -> None:
    pipe = tails.client.pipeline(transaction=False)
    for n in range(20_000):
        pipe.xadd(MDT0, {"data": b'{"event_type":"NEW","status":"S%d"}' % n})
    pipe.execute()
    tail = tails.start("--run-once")
    assert tail.stdout is not None
    shown = []
    for n, line in enumerate(tail.stdout):
        shown.append(line.split()[4])
        if n % 4000 == 0:
            time.sleep(0.01)
    assert shown == [f"S{n}" for n in range(20_000)]


def test_redis_going_away_in_the_middle_is_waited_out(private_server: PrivateServer, tmp_path: Path) -> None:
    server = private_server(appendonly="yes")
    with tails_on(server, 0, tmp_path) as tails:
        tails.append(status="S1")
        tail = tails.start("--no-paths", "-n", "1")
        assert statuses(read_line(tail)) == ["S1"]
        server.restart()
        tails.append(status="S2")
        assert statuses(read_line(tail)) == ["S2"]
