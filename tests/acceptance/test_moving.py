"""docs/moving.md: from an earlier shipper to this one, and back, on the same streams, with the files that are there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from hsm_shipper.config import RETIRED_KEYS
from tests.support.earlier_shipper import EarlierShipper
from tests.support.shipper import COMMAND, action_line, clean_environment
from tests.support.site import MDT, STREAM, SimulatedServer
from tests.support.truth import digests_of, judge_stream
from tests.support.waiting import DEADLINE_S

MOVING = (Path(__file__).parents[2] / "docs/moving.md").read_text()
EARLIER_FILE = """\
# As releases 0.2 and 0.3 have it.
mdt_watch_glob: "{glob}"
poll_interval: 20
reconcile_interval: 21600
cache_path: "/var/cache/hsm-action-shipper/cache.json"
redis_host: "127.0.0.1"
redis_port: {port}
redis_db: {db}
redis_stream_prefix: "hsm:actions"
aggressive_trim_threshold: 5000
trim_chunk_size: 1000
use_approximate_trimming: true
log_level: "info"
"""


class Move:
    """A server that an earlier shipper has served: its file, its cache, and its stream after its maintenance."""

    def __init__(self, server: SimulatedServer) -> None:
        self.server = server
        self.actions = server.add_mdt(MDT)
        keys = server.keys
        self.file = server.root / "hsm_action_shipper.yaml"
        self.file.write_text(
            EARLIER_FILE.format(glob=keys["mdt_watch_glob"], port=keys["redis_port"], db=keys["redis_db"])
        )
        self.environ = {f"HSM_{key.upper()}": str(keys[key]) for key in ("state_dir", "run_dir", "host")}
        server.config = self.file
        self.earlier = EarlierShipper(server.redis, STREAM, server.root / "cache.json")
        self.show(*(action_line(number) for number in range(1, 9)))
        self.earlier.poll(*self.lines)
        # It was down while 3 ended, and has lost its cache: an orphan, which its maintenance purged by key.
        self.show(*(action_line(number, "STARTED" if number < 6 else "WAITING") for number in (1, 2, 4, 5, 6, 7, 8)))
        (server.root / "cache.json").unlink()
        self.earlier.poll(*self.lines)
        self.earlier.maintain(*self.lines)

    def show(self, *lines: bytes) -> None:
        """What the MDT's list holds from now on."""
        self.lines = lines
        self.actions.write_bytes(b"".join(lines))

    def run_once(self) -> list[str]:
        """One poll of ours with the earlier file; returns the types of the events that it appended."""
        before = self.server.redis.xlen(STREAM)
        done = self.server.run("--run-once", **self.environ)
        assert done.returncode == 0, done.stderr
        return [event["event_type"] for event in self.server.events(MDT)[before:]]

    def is_true(self) -> bool:
        """Whether the stream says what the list holds, to our fold and to a consumer of earlier times."""
        keys = {f"0x200000401:{number}:0x0:ARCHIVE" for number in self.numbers()}
        listing = digests_of(b"".join(self.lines))
        return judge_stream(self.server.redis, STREAM).digests() == listing and {*self.earlier.live_keys()} == keys

    def numbers(self) -> list[str]:
        """The object ids in the list."""
        return [line.partition(b" fid=[0x200000401:")[2].partition(b":")[0].decode() for line in self.lines]

    def check(self) -> list[dict[str, str]]:
        """What `check` finds fault with."""
        done = self.server.run("check", "--json", **self.environ)
        return [finding for finding in json.loads(done.stdout)["findings"] if finding["level"] != "ok"]


@pytest.fixture
def move(server: SimulatedServer) -> Move:
    return Move(server)


def test_nothing_is_told_twice_and_only_what_changed_since_is_told(move: Move) -> None:
    before = move.server.redis.xlen(STREAM)
    assert move.run_once() == []
    assert move.server.redis.xlen(STREAM) == before and move.is_true()
    move.show(action_line(1, "SUCCEED"), *move.lines[2:], action_line(9))
    assert move.run_once() == ["PURGED", "UPDATE", "NEW"]
    assert move.is_true() and move.run_once() == []


def test_its_file_is_taken_and_check_tells_what_is_of_no_use_any_more(move: Move) -> None:
    found = move.check()
    texts = [finding["text"] for finding in found if finding["subject"] == "configuration"]
    assert {"cache_path", "trim_chunk_size", "use_approximate_trimming"} == {
        text.partition(": ")[2].partition(" ")[0] for text in texts
    }


def test_check_tells_of_one_that_still_runs(move: Move) -> None:
    (found,) = [finding for finding in move.check() if finding["subject"] == MDT]
    assert found["level"] == "warning" and "an earlier shipper wrote the newest entry" in found["text"]
    assert "docs/moving.md" in found["advice"]
    move.show(*move.lines[1:])
    assert move.run_once() == ["PURGED"]
    assert [finding for finding in move.check() if finding["subject"] == MDT] == []


def test_one_that_was_stopped_long_ago_is_not_warned_of(server: SimulatedServer) -> None:
    server.add_mdt(MDT)
    server.redis.xadd(STREAM, {"data": json.dumps({"event_type": "NEW"})}, id="1759401125000-0")
    done = server.run("check", "--json")
    assert "earlier shipper" not in done.stdout


def test_maintenance_goes_on_with_its_stream(move: Move) -> None:
    move.run_once()
    done = move.server.run("--run-once", "--maintenance-now", **move.environ)
    assert done.returncode == 0 and "healed 0 orphans, 0 missing, 0 differing" in done.stdout
    assert move.is_true()


def test_the_way_back_and_forth_again(move: Move) -> None:
    move.run_once()
    move.show(*move.lines[1:], action_line(9))
    assert move.run_once() == ["PURGED", "NEW"]
    # Back: its cache is as old as the move. It may repeat what we have told; what came in our time, and went before it
    # started, is left to its maintenance.
    move.show(*move.lines[1:-1], action_line(10, "STARTED"))
    move.earlier.poll(*move.lines)
    move.earlier.maintain(*move.lines)
    assert move.is_true()
    # And again to ours.
    assert move.run_once() == [] and move.is_true()
    move.show(*move.lines[1:], action_line(11))
    assert move.run_once() == ["PURGED", "NEW"] and move.is_true()
    assert move.run_once() == []


def test_what_reads_the_json_finds_its_paths(move: Move) -> None:
    command = [str(COMMAND.with_name("hsm-stream-stats")), "-c", str(move.file)]
    environment = clean_environment() | move.environ
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    told = json.loads(done.stdout)
    for name in re.findall(r"`summary\.(\w+)`", MOVING):
        assert isinstance(told["summary"][name], int), name
    assert told["summary"]["streams"][STREAM]["length"] == move.server.redis.xlen(STREAM)
    for row in told["breakdown"]:
        assert {"mdt", "action", "status", "count"} <= row.keys()
    assert sum(row["count"] for row in told["breakdown"]) == len(move.lines)


def test_the_keys_that_are_of_no_use_are_told() -> None:
    assert {key for key in RETIRED_KEYS if f"`{key}`" not in MOVING} == set()
