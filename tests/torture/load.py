"""`python -m tests.torture load`: many MDTs with long lists that change a lot, and what it does to all who are there.

Prints its figures, and ends with 1 where a poll was left out and nobody said so, memory grows, a command of ours held
Redis for more than ten milliseconds, or a consumer waited for longer than a poll.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

import hsm_shipper
from hsm_shipper.contract.redis_keys import stream_key
from hsm_shipper.contract.trim_bound import length_bound
from hsm_shipper.state.poll_status import read_poll_status, state_file
from tests.simulator import SimulatedMds
from tests.support.servers import RedisServer, dying_with_parent
from tests.support.shipper import MetadataServer
from tests.support.usage import course_of, descriptors, resident_kib
from tests.support.waiting import DEADLINE_S, eventually
from tests.torture.long_lists import LongList
from tests.torture.stalls import StallWatch

_BLOCKED_MAX_MS = 10
_SLOWLOG_MAX = 10_000
_SAMPLE_EVERY_S = 5.0
_CONSUMERS = ("group", "tail")
_PREFIX = "hsm:actions"
_LUA = Path(hsm_shipper.__file__).parent / "stream"
_SCRIPTS = [
    (name, sha1((_LUA / f"{name}.lua").read_bytes(), usedforsecurity=False).hexdigest(), who)
    for name, who in (("compare_and_append", "a worker"), ("trim", "maintenance"))
]
_SENDERS = {
    "XADD": "within a worker's script",
    "XRANGE": "a replay",
    "XREAD": "the tail",
    "XREADGROUP": "the group",
    "XACK": "the group",
    "INFO": "this program",
}
# Of a process; the allocator keeps some of what a run of maintenance needed. Some runs have to be in each third.
_RECONCILE_EVERY_S = 60
_GROWTH_MAX_SHARE = 0.05
_GROWTH_MAX_KIB = 8192
# What is slow is to be slow by itself, and not by waiting for a processor that the load has.
_SERVER_PRIORITY = 1
# So many polls with so many steps each before anything is measured: streams are beyond their bound then.
_WARMING_POLLS, _WARMING_STEPS = 3, 24


class Load:
    """The server, the shipper on its MDTs, and the consumers."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = folder
        settings = {"slowlog-log-slower-than": str(1000 * _BLOCKED_MAX_MS), "slowlog-max-len": str(_SLOWLOG_MAX)}
        self.broker = RedisServer(
            folder / "redis", settings | {"latency-monitor-threshold": str(_BLOCKED_MAX_MS)}
        ).start()
        with contextlib.suppress(OSError):  # of others than root
            os.sched_setscheduler(self.broker.pid, os.SCHED_FIFO, os.sched_param(_SERVER_PRIORITY))
        self.stalls = StallWatch(folder)
        self.client: Any = self.broker.client()
        self.server = MetadataServer(
            self.broker.port, 0, host="mds1", poll_interval=options.poll_interval, reconcile_interval=_RECONCILE_EVERY_S
        )
        mds = SimulatedMds(self.server.root)
        self.lists: dict[str, LongList] = {}
        for number in range(options.mdts):
            name = f"elm-MDT{number:04x}"
            mds.add_folders(name)
            changes = round(options.lines * options.churn / 100)
            self.lists[name] = LongList(mds.actions_path(name), number, options.lines, changes)
            self.lists[name].write()
        self._consumers: list[subprocess.Popen[bytes]] = []
        self.samples: dict[str, list[float]] = defaultdict(list)

    def start(self) -> None:
        """Start the shipper, and wait until every list is in its stream."""
        self.server.start()
        eventually(lambda: all(self.polls(name) > 0 for name in self.lists), 20 * DEADLINE_S, 0.5)

    def let_read(self) -> None:
        """Start the consumers: they are given what comes from now on."""
        for kind in _CONSUMERS:
            command = [sys.executable, "-m", "tests.torture.load_consumer", kind, f"{self.broker.url}/0"]
            self._consumers.append(
                subprocess.Popen([*command, str(self.folder / kind)], preexec_fn=dying_with_parent())
            )
            eventually((self.folder / kind).exists)

    def warm(self) -> None:
        """Have maintenance bring every stream within its bound once: from there on memory is to stay as it is."""
        for _ in range(_WARMING_POLLS):
            before = {name: self.polls(name) for name in self.lists}
            for each in self.lists.values():
                for _ in range(_WARMING_STEPS):
                    each.step()
                each.write()
            eventually(lambda: all(self.polls(name) > before[name] for name in self.lists), DEADLINE_S, 0.5)  # noqa: B023
        eventually(lambda: self.longest() <= length_bound(self.options.lines), 20 * DEADLINE_S, 0.5)

    def longest(self) -> int:
        """The entries of the longest stream."""
        return max(int(self.client.xlen(stream_key(_PREFIX, name))) for name in self.lists)

    def polls(self, name: str) -> int:
        """How many polls an MDT has had."""
        status = read_poll_status(state_file(self.server.state_dir, name))
        return 0 if status is None else status.polls

    def run(self, seconds: float) -> None:
        """Let all lists change once a poll, one after the other, and look what it takes."""
        begun_s, interval_s = time.monotonic(), self.options.poll_interval
        due = [
            (turn * interval_s + interval_s * at / len(self.lists), name)
            for turn in range(max(1, int(seconds / interval_s)))
            for at, name in enumerate(self.lists)
        ]
        sampled_s = begun_s
        for due_s, name in due:
            while (left_s := begun_s + due_s - time.monotonic()) > 0:
                if time.monotonic() >= sampled_s:
                    sampled_s += _SAMPLE_EVERY_S
                    self.sample()
                time.sleep(min(left_s, 0.2))
            self.lists[name].step()
            self.lists[name].write()

    def sample(self) -> None:
        """Take down what everything takes just now."""
        programs = self.server.programs()
        pids = {name: program.pid for name, program in programs.items() if program.pid}
        pids |= {"supervisord": self.server.pid}
        pids |= {f"consumer: {kind}": each.pid for kind, each in zip(_CONSUMERS, self._consumers, strict=True)}
        for name, pid in pids.items():
            self.samples[f"{name}, KiB"].append(resident_kib(pid))
            self.samples[f"{name}, descriptors"].append(descriptors(pid))
        self.samples["Redis, KiB"].append(self.client.info("memory")["used_memory"] / 1024)
        self.samples["longest stream, entries"].append(self.longest())

    def told_by(self, kind: str) -> dict[str, float]:
        """What a consumer tells of itself."""
        told: dict[str, float] = json.loads((self.folder / kind).read_text())
        return told

    def close(self) -> None:
        """End everything."""
        for consumer in self._consumers:
            consumer.kill()
            consumer.wait(DEADLINE_S)
        self.server.close()
        self.broker.kill()
        self.stalls.close()


def polls_left_out(load: Load, before: dict[str, int], seconds: float, said: str) -> list[str]:
    """What nobody said of polls that were left out."""
    wanted = int(seconds / load.options.poll_interval) - 1  # the first and the last may be on either side
    made = {name: load.polls(name) - before[name] for name in load.lists}
    late = [name for name, polls in made.items() if polls < wanted]
    told = {name for name in late if re.search(rf" mdt-{name}: polls left out: ", said)}
    print(f"polls: {min(made.values())} to {max(made.values())} of {wanted + 1} for each MDT, ", end="")
    print(f"{len(late)} MDTs with some left out, {len(told)} of them said so")
    return [
        f"{name}: {wanted - made[name]} polls were left out, and nobody said so" for name in late if name not in told
    ]


def memory_that_grows(load: Load) -> list[str]:
    """What takes more and more."""
    wrong = []
    print("\n| what | middle third | last third | most |\n|---|--:|--:|--:|")
    for name, samples in sorted(load.samples.items()):
        if len(samples) < 3:
            continue
        course = course_of(samples)
        print(f"| {name} | {course.middle:,.0f} | {course.last:,.0f} | {course.most:,.0f} |")
        may_grow = max(_GROWTH_MAX_KIB, _GROWTH_MAX_SHARE * course.middle) if name.endswith("KiB") else 2
        if course.growth > may_grow and not name.startswith(("Redis", "longest")):
            wrong.append(f"{name}: {course.growth:+,.0f}")
    print()
    # Maintenance begins by itself at twice what it leaves; two polls may come until it has.
    options = load.options
    may_hold = 2 * length_bound(options.lines) + 2 * round(options.lines * options.churn / 100)
    longest = max(load.samples["longest stream, entries"], default=0)
    return [*wrong, *([f"a stream of {longest:,.0f} entries, {may_hold:,} at most"] if longest > may_hold else [])]


def commands_that_held(load: Load, when: str) -> list[str]:
    """Commands that held the server too long since it was asked last, with what they are for.

    What a command took while the machine itself stood still is not its own.
    """
    slow: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for entry in load.client.slowlog_get(_SLOWLOG_MAX):
        what = _whose(entry["command"].decode(errors="replace").split())
        slow[what].append((entry["start_time"], entry["duration"] / 1000))
    monitored = load.client.execute_command("LATENCY", "HISTORY", "command")
    if monitored and not slow:
        slow["a command, by the latency monitor"] = monitored
    wrong = []
    for what, calls in slow.items():
        ours_ms = [ms for at_s, ms in calls if ms - load.stalls.longest_ms(at_s) > _BLOCKED_MAX_MS]
        print(
            f"Redis, {when}: {what}: {len(calls)} times above {_BLOCKED_MAX_MS} ms, at most "
            f"{max(ms for _, ms in calls):.1f} ms, {len(calls) - len(ours_ms)} of them while the machine stood still"
        )
        if ours_ms:
            wrong.append(f"{what} held Redis for {max(ours_ms):.1f} ms, {when}")
    worst = {event[0].decode(): event[3] for event in load.client.execute_command("LATENCY", "LATEST")}
    told = ", ".join(f"{event} {most_ms} ms" for event, most_ms in sorted(worst.items()))
    print(f"Redis, {when}: its latency monitor saw {told or f'nothing above {_BLOCKED_MAX_MS} ms'}", flush=True)
    load.client.execute_command("SLOWLOG", "RESET")
    load.client.execute_command("LATENCY", "RESET")
    return wrong


def _whose(words: list[str]) -> str:
    """A command of the slow log, with who sends it: each is sent by one kind of program, and scripts have names."""
    name = words[0].upper()
    if name in ("EVALSHA", "EVAL"):
        return next(
            (f"{script} ({who})" for script, digest, who in _SCRIPTS if digest == words[1]), "a script, sent whole"
        )
    return f"{name} ({_SENDERS.get(name, 'one of all programs')})"


def consumers_that_starve(load: Load, appended: int) -> list[str]:
    """Which consumers waited too long, or have not been given everything."""
    wrong = []
    for kind in _CONSUMERS:
        eventually(lambda: load.told_by(kind)["events"] >= appended, 10 * DEADLINE_S, 0.5)  # noqa: B023
        told = load.told_by(kind)
        worst_s, events = told["worst_s"], told["events"]
        print(f"consumer: {kind}: {events:,.0f} events, {appended:,} appended; given them {worst_s:.1f} s old at most")
        if worst_s > load.options.poll_interval:
            wrong.append(f"consumer {kind} waited for {worst_s:.1f} s")
    return wrong


def measure(load: Load, minutes: float) -> list[str]:
    """Run, print the figures, and return what is wrong."""
    begun_s = time.monotonic()
    load.start()
    print(f"{len(load.lists)} MDTs of {load.options.lines:,} actions: shipped in {time.monotonic() - begun_s:.0f} s")
    wrong = commands_that_held(load, "while all lists were shipped for the first time")
    load.warm()
    wrong += commands_that_held(load, "until every stream was within its bound")
    load.let_read()
    before, log_bytes = {name: load.polls(name) for name in load.lists}, load.server.log.stat().st_size
    added = _added(load)
    begun_s = time.monotonic()
    load.run(60 * minutes)
    seconds = time.monotonic() - begun_s
    said = load.server.log.read_bytes()[log_bytes:].decode(errors="replace")
    wrong += polls_left_out(load, before, seconds, said)
    wrong += memory_that_grows(load)
    wrong += commands_that_held(load, "under load")
    wrong += consumers_that_starve(load, _added(load) - added)
    print(f"{_added(load) - added:,} entries in {seconds:.0f} s")
    late_ms = [ms for _, ms in load.stalls.all()]
    long = sum(ms > _BLOCKED_MAX_MS for ms in late_ms)
    print(f"processors stood still {len(late_ms)} times for more than 2 ms, ", end="")
    print(f"{long} times for more than {_BLOCKED_MAX_MS}, at most {max(late_ms, default=0):.1f} ms")
    return wrong


def _added(load: Load) -> int:
    return sum(load.client.xinfo_stream(stream_key(_PREFIX, name))["entries-added"] for name in load.lists)


def main(arguments: Sequence[str]) -> int:
    """Run the load; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="%(default)s unless said")
    parser.add_argument("--mdts", type=int, default=16, help="%(default)s")
    parser.add_argument("--lines", type=int, default=100_000, help="of each list; %(default)s")
    parser.add_argument("--churn", type=float, default=5, help="percent of a list that changes each poll; %(default)s")
    parser.add_argument("--poll-interval", type=float, default=20, help="seconds; %(default)s, as by default")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="load"))
    load = Load(folder, options)
    try:
        wrong = measure(load, options.minutes)
    finally:
        load.close()
        shutil.rmtree(folder, ignore_errors=True)
    for what in wrong:
        print(f"WRONG: {what}")
    print("something is wrong: see above" if wrong else "all is well")
    return int(bool(wrong))
