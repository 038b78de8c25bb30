"""What the tests of maintenance share: histories, damage, and catching a run half way."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import cast

import msgspec

from hsm_shipper.contract.event import Event
from hsm_shipper.contract.redis_keys import maintenance_key
from hsm_shipper.state.maintenance_log import RecordedRun, runs_file
from hsm_shipper.state.poll_status import state_file
from tests.simulator import SimulatedMdt
from tests.support.shipper import COMMAND, clean_environment
from tests.support.site import MDT, STREAM, SimulatedServer, is_true
from tests.support.waiting import DEADLINE_S, eventually

LOCK = maintenance_key("hsm:actions", MDT)
MAINTAINED = f"{MDT} is maintained from now on"
HISTORY_ENTRIES = 20_000  # a run reads them in some tenths of a second
# In the server, where making many takes no time.
_ADD_FINISHED_ACTIONS = """
for n = 0, ARGV[2] / 2 - 1 do
    local action = string.format(
        '"mdt":"%s","cat_idx":9,"rec_idx":%d,"fid":"0x1:0x%x:0x0","action":"ARCHIVE","action_key":"0x1:0x%x:0x0:ARCHIVE",',
        ARGV[1], n, n, n) .. '"timestamp":1,"hash":"00000000000000000000000000000000","cookie":"0x1",'
    redis.call('XADD', KEYS[1], '*', 'data', '{' .. action .. '"event_type":"NEW","status":"WAITING"}')
    redis.call('XADD', KEYS[1], '*', 'data', '{' .. action .. '"event_type":"PURGED","status":"PURGED"}')
end
"""


def damage(server: SimulatedServer, mdt: SimulatedMdt, poll: Callable[[], object]) -> None:
    """Make one orphan and one missing action in the stream of `mdt`, which its worker does not notice."""
    gone, lost = mdt.records()[:2]
    mdt.remove(gone)
    mdt.write()
    poll()
    mdt.submit("ARCHIVE")
    mdt.write()
    poll()  # its NEW is the newest entry, which stays
    ids = {}
    for entry_id, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], server.redis.xrange(STREAM)):
        event = msgspec.json.decode(fields[b"data"], type=Event)
        ids[event.event_type, event.cat_idx, event.rec_idx] = entry_id
    delete_unnoticed(server, ids["PURGED", *gone.place], ids["NEW", *lost.place])
    assert not is_true(server.redis, mdt)


def delete_unnoticed(server: SimulatedServer, *entry_ids: bytes) -> None:
    """Delete entries while the state file does not know how many there are, as after an update: no poll notices."""
    worker = server.worker(MDT)
    with _stopped_between_commits(server, worker.pid if worker else 0) as state:
        assert server.redis.xdel(STREAM, *entry_ids) == len(entry_ids)
        state.execute("UPDATE stream_position SET entries = NULL")
        state.execute("COMMIT")


@contextlib.contextmanager
def _stopped_between_commits(server: SimulatedServer, pid: int) -> Iterator[sqlite3.Connection]:
    """The state file, locked, while its worker (0 for none) is stopped, which holds no lock of its own then."""

    def lock(state: sqlite3.Connection) -> bool:
        if pid:
            os.kill(pid, signal.SIGSTOP)
        with contextlib.suppress(sqlite3.OperationalError):
            state.execute("BEGIN IMMEDIATE")
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    path = state_file(server.state_dir, MDT)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as state:
        eventually(lambda: lock(state))
        try:
            yield state
        finally:
            if pid:
                os.kill(pid, signal.SIGCONT)


def add_history(server: SimulatedServer, entries: int, *, kept: bool = False) -> None:
    """Put `entries` events of finished actions into the stream; with `kept` a consumer group needs all of them."""
    server.redis.eval(_ADD_FINISHED_ACTIONS, 1, STREAM, MDT, entries)
    if kept:
        server.redis.xgroup_create(STREAM, "slow", "0")


def start_maintain(server: SimulatedServer) -> subprocess.Popen[str]:
    """Start `maintain`, which will have to wait."""
    return subprocess.Popen(
        [str(COMMAND), "-c", str(server.config), "maintain"],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def maintenance_pid(server: SimulatedServer) -> int:
    """The maintenance program's process, once it maintains an MDT."""
    eventually(lambda: MAINTAINED in server.log.read_text())
    return server.programs()["maintenance"].pid


def run_now(server: SimulatedServer) -> None:
    """Have the maintenance program run everything now."""
    os.kill(maintenance_pid(server), signal.SIGUSR1)


def start_with_history(server: SimulatedServer, mdt: SimulatedMdt) -> None:
    """Start it on a stream so long that a run takes its time, and that a consumer group keeps so."""
    add_history(server, HISTORY_ENTRIES, kept=True)
    server.start_polled(mdt)
    eventually(lambda: runs_of(server))  # its length has started one
    assert server.redis.xlen(STREAM) >= HISTORY_ENTRIES


def runs_of(server: SimulatedServer, mdt: str = MDT) -> list[RecordedRun]:
    """Every recorded run, oldest first."""
    path = runs_file(server.state_dir)
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=DEADLINE_S)) as database:
        database.row_factory = sqlite3.Row
        with contextlib.suppress(sqlite3.OperationalError):  # not made yet
            rows = database.execute("SELECT * FROM runs WHERE mdt = ? ORDER BY id", (mdt,)).fetchall()
            return [msgspec.convert({key: row[key] for key in row.keys() if key != "id"}, RecordedRun) for row in rows]  # noqa: SIM118
    return []


@contextlib.contextmanager
def held_in_a_run(server: SimulatedServer) -> Iterator[int]:
    """The maintenance program, stopped while it reads the stream; goes on afterwards, if it still lives."""
    pid = maintenance_pid(server)
    done = len(runs_of(server))
    run_now(server)

    def is_held() -> bool:
        nonlocal done
        if server.redis.exists(LOCK):
            os.kill(pid, signal.SIGSTOP)
            if server.redis.exists(LOCK):
                return True
            os.kill(pid, signal.SIGCONT)
        if len(runs_of(server)) > done:  # it ended before we looked: the next one
            done += 1
            run_now(server)
        return False

    eventually(is_held, interval_s=0.001)
    try:
        server.redis.pexpire(LOCK, 3_600_000)  # however long a test holds it
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def settled(server: SimulatedServer, mdt: SimulatedMdt) -> bool:
    """Whether the stream tells what the listing holds."""
    return is_true(server.redis, mdt)
