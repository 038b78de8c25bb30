"""Entries of 10 MB: malformed to whoever reads them, in time and memory that they bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from hsm_shipper.contract.event import DATA_MAX_BYTES, decode
from hsm_shipper.contract.fold import ActionFold
from hsm_shipper.contract.kernel_line import UNDERSTOOD_MAX_BYTES, parse_line
from hsm_shipper.errors import MalformedEvent
from hsm_tools.consumer import StreamReader
from hsm_tools.event import EntryDecoder
from tests.support.both_readers import reader, readers
from tests.support.core import KEY, OneMdt, line
from tests.support.readings import MDT0, event_data
from tests.support.servers import RedisServer
from tests.support.tails import ENVIRONMENT
from tests.support.truth import entries_of

__all__ = ["reader", "readers"]

LARGE_BYTES = 10_000_000
LARGE = 6
SMALL = 20
PADDING = "x" * LARGE_BYTES


def large(n: int) -> bytes:
    """A large entry, each in another way: in what is kept of an action, in what is passed over, or no JSON."""
    data = event_data(n) | ({"status": PADDING}, {"of_somebody": PADDING}, {"fid": PADDING})[n % 3]
    text = json.dumps(data) if n % 2 else json.dumps(data, indent=1) + PADDING[: LARGE_BYTES * (n % 4) // 4]
    return text.encode()


@pytest.fixture
def stream(client: redis.Redis) -> redis.Redis:
    """A stream with small entries, and large ones between."""
    for n in range(SMALL):
        client.xadd(MDT0, {"data": json.dumps(event_data(n))})
        if n < LARGE:
            client.xadd(MDT0, {"data": large(n)})
    return client


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str
    memory_bytes: int
    """The most that was resident."""
    cpu_s: float


def run(program: str, server: RedisServer, db: int, folder: Path, *options: str) -> Ended:
    """Run a tool to its end."""
    command = [str(Path(sys.executable).with_name(program)), "--host", server.host, "--port", str(server.port)]
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        started = subprocess.Popen([*command, "--db", str(db), *options], stdout=out, stderr=err, env=ENVIRONMENT)
        _, status, used = os.wait4(started.pid, 0)
        out.seek(0)
        err.seek(0)
        code = os.waitstatus_to_exitcode(status)
        started.returncode = code
        return Ended(code, out.read(), err.read(), used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)


@pytest.mark.parametrize(
    "command",
    [
        ("hsm-stream-tail", "--run-once", "--no-paths"),
        ("hsm-stream-tail", "-n", "3", "--no-follow", "--no-paths", "--json"),
        ("hsm-stream-stats",),
        ("hsm-action-top", "--run-once"),
        ("hsm-stream-reconciler",),
    ],
    ids=" ".join,
)
def test_tools(
    command: tuple[str, ...], stream: redis.Redis, redis_server: RedisServer, redis_db: int, tmp_path: Path
) -> None:
    with_large = run(command[0], redis_server, redis_db, tmp_path, *command[1:])
    entries: Any = stream.xrange(MDT0)
    for entry_id, fields in entries:
        if len(fields[b"data"]) > DATA_MAX_BYTES:
            stream.xdel(MDT0, entry_id)
            stream.xadd(MDT0, {"data": "{}"})
    without = run(command[0], redis_server, redis_db, tmp_path, *command[1:])
    assert with_large.status == without.status
    # A page of what the server sent, and what was read of it and is not taken apart yet.
    assert with_large.memory_bytes - without.memory_bytes < 3 * LARGE * LARGE_BYTES
    assert with_large.cpu_s - without.cpu_s < 5
    assert PADDING[:1000] not in with_large.out + with_large.err
    if command[0] == "hsm-stream-stats":
        summary = json.loads(with_large.out)["summary"]
        assert (summary["malformed_entries"], summary["total_live_actions"]) == (LARGE, SMALL)


def test_a_group_is_given_none_and_nothing_stays_pending(stream: redis.Redis, reader: StreamReader) -> None:
    with reader.group("g", from_beginning=True) as group:
        taken: list[Any] = []
        for event in group.events(block_ms=50):
            if event is None:
                break
            taken.append(event)
            group.ack(event)
    assert len(taken) == SMALL
    told: Any = stream.xpending(MDT0, "g")
    assert told["pending"] == 0


@pytest.mark.parametrize("n", range(LARGE))
def test_the_fold_and_consumers_judge_alike(n: int) -> None:
    data = large(n)
    with pytest.raises(MalformedEvent, match="more than any event"):
        decode(data)
    fold = ActionFold()
    assert fold.fold_page([(b"1-0", data)]) == [b"1-0"] and not len(fold)
    passed: list[bytes] = []
    decoder = EntryDecoder(refreshes=True)
    assert decoder.events(b"s", [(b"1-0", [b"data", data])], lambda _, entry: passed.append(entry)) == []
    assert passed == [b"1-0"] and decoder.malformed == 1


def test_the_largest_that_is_an_event_is_one_to_both() -> None:
    room = DATA_MAX_BYTES - len(json.dumps(event_data(1, of_somebody="")))
    for more, is_event in ((0, True), (1, False)):
        data = json.dumps(event_data(1, of_somebody="x" * (room + more))).encode()
        assert len(ActionFold().fold_page([(b"1-0", data)])) == (not is_event)
        given = EntryDecoder(refreshes=True).events(b"s", [(b"1-0", [b"data", data])], lambda *_: None)
        assert len(given) == is_event


def test_no_line_that_is_understood_makes_a_larger_one(mdt: OneMdt) -> None:
    base = line(1)
    worst = base + b" " + b"\x01" * (UNDERSTOOD_MAX_BYTES - len(base) - 1)
    assert parse_line(worst) is not None and parse_line(worst + b"\x01") is None
    mdt.poll(worst)
    [(_, written)] = entries_of(mdt.client, KEY)
    assert written is not None and len(written) <= DATA_MAX_BYTES
    mdt.check(worst)
